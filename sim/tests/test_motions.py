"""Motions of experts: continuous, and right in the limits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from gen2act_sim.motions import approach, funnel
from gen2act_sim.scenes import F64

GOAL = np.array([0.05, 0.7, 0.1])
FUNNEL = partial(funnel, grasp_m=GOAL, top_m=0.11)
APPROACH = partial(approach, contact_m=GOAL, past_m=0.04, standoff_m=0.1)


@pytest.mark.parametrize("motion", [FUNNEL, APPROACH], ids=["funnel", "approach"])
def test_a_millimetre_never_turns_the_motion_round(motion: Callable[[F64], F64]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        hand = GOAL + rng.uniform(-0.15, 0.15, 3)
        beside = hand + rng.uniform(-0.0006, 0.0006, 3)
        assert np.abs(motion(hand) - motion(beside)).max() < 0.15


@pytest.mark.parametrize("motion", [FUNNEL, APPROACH], ids=["funnel", "approach"])
def test_motion_ends_at_the_goal_from_anywhere(motion: Callable[[F64], F64]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        hand = GOAL + rng.uniform(-0.2, 0.2, 3)
        for _ in range(200):
            hand = hand + 0.01 * motion(hand)
        assert np.abs(hand - GOAL)[[0, 2]].max() < 0.005


def test_a_low_hand_rises_before_it_goes_sideways_and_a_high_one_goes_at_once() -> None:
    low = FUNNEL(GOAL + np.array([0.1, 0.0, 0.0]))
    high = FUNNEL(GOAL + np.array([0.1, 0.0, 0.11]))
    np.testing.assert_allclose(low, [0.0, 0.0, 1.0], atol=1e-9)
    np.testing.assert_allclose(high, [-1.0, 0.0, 0.0], atol=1e-9)


def test_a_hand_beside_the_line_of_approach_waits_in_front() -> None:
    np.testing.assert_allclose(
        APPROACH(GOAL + np.array([0.0, -0.1, 0.1])), [0.0, 0.0, -1.0], atol=1e-9
    )
    assert APPROACH(GOAL + np.array([0.1, 0.0, 0.0]))[1] == -1.0
