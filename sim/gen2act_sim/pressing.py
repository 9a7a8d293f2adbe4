"""Scripted experts that push with the closed fingers: buttons and the handle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gen2act_sim.kinematics import Kinematics
from gen2act_sim.motions import approach, funnel
from gen2act_sim.scenes import F64

_TIPS_BELOW_HAND_M = 0.05


def _press_button(kin: Kinematics) -> tuple[F64, bool]:
    """From in front, the finger tips against the middle of the button, through its travel."""
    contact = kin.button_m + np.array([0.0, 0.0, _TIPS_BELOW_HAND_M - 0.005])
    return approach(kin.hand_m, contact, past_m=0.04, standoff_m=0.10), True


def _press_down(kin: Kinematics, contact_m: F64) -> tuple[F64, bool]:
    """From above, the finger tips onto contact_m [3] and through the travel of what is there."""
    hand = contact_m + np.array([0.0, 0.0, _TIPS_BELOW_HAND_M - 0.05])
    return funnel(kin.hand_m, hand, top_m=0.09), True


EXPERTS: dict[str, Callable[[Kinematics], tuple[F64, bool]]] = {
    "button-press": _press_button,
    "button-press-topdown": lambda kin: _press_down(kin, kin.button_m),
    "handle-press": lambda kin: _press_down(kin, kin.site_m("handleStart")),
}
