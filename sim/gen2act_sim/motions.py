"""Motions that experts are made of, in units of one centimetre per simulator step."""

from __future__ import annotations

import numpy as np

from gen2act_sim.scenes import F64


def toward(source_m: F64, target_m: F64, gain: float) -> F64:
    """Proportional motion [3], at most 1 per axis."""
    return np.clip(gain * (target_m - source_m), -1.0, 1.0)


def fading(value: float, full: float, none: float) -> float:
    """1 up to `full`, 0 from `none` on, linear between."""
    return float(np.clip((none - value) / (none - full), 0.0, 1.0))


def funnel(
    hand_m: F64, grasp_m: F64, *, top_m: float, inner_m: float = 0.01, outer_m: float = 0.05
) -> F64:
    """Motion onto a grasp from above, continuous in every coordinate.

    The wanted height above the grasp grows with the distance aside, from 0 at `inner_m` to `top_m`
    at `outer_m`; a hand below that height slows down sideways. No threshold flips the direction: a
    policy that is a few millimetres unsure about where it is does nearly the right thing, where
    "misaligned: up, aligned: down" makes it hover.

    Args:
        hand_m: the hand [3].
        grasp_m: where it shall be [3].
        top_m: height above the grasp at which the hand travels [m].
        inner_m: so far aside the hand still comes down all the way [m].
        outer_m: from here on it travels at the top [m].

    Returns:
        displacement in units of 1 cm [3].
    """
    aside = float(np.linalg.norm((hand_m - grasp_m)[:2]))
    wanted = top_m * (1.0 - fading(aside, inner_m, outer_m))
    missing = wanted - float(hand_m[2] - grasp_m[2])
    motion = toward(hand_m, grasp_m + np.array([0.0, 0.0, wanted]), 20.0)
    motion[:2] *= fading(missing, 0.01, 0.05)
    return motion


def approach(hand_m: F64, contact_m: F64, *, past_m: float, standoff_m: float) -> F64:
    """Motion against a face from in front (along +y): the funnel turned to the horizontal.

    Args:
        hand_m: the hand [3].
        contact_m: where it touches the face [3].
        past_m: how far beyond the contact the hand is told to go [m].
        standoff_m: how far before the face it waits while it is 5 cm or more aside [m].

    Returns:
        displacement in units of 1 cm [3].
    """
    aside = float(np.linalg.norm((hand_m - contact_m)[[0, 2]]))
    aligned = fading(aside, 0.01, 0.05)
    wanted_y = contact_m[1] + past_m * aligned - standoff_m * (1.0 - aligned)
    motion = toward(hand_m, np.array([contact_m[0], wanted_y, contact_m[2]]), 20.0)
    # Too far forward to pass in front: back first.
    motion[[0, 2]] *= fading(float(hand_m[1] - wanted_y), 0.02, 0.06)
    return motion
