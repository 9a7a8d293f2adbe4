"""When is a task done? Predicates on the simulator's state, free of any reset bookkeeping.

Thresholds are Meta-World's, written on the joints so that they hold for any stage of a chain:

task           success                                           Meta-World says
coffee-push    mug within 7 cm of its place, upright             same, without upright
coffee-button  button has been 1 cm of 3 cm in since the stage   pressed now (its button has no
               began, deeper than at its start                   spring and stays in; ours has)
coffee-pull    mug within 7 cm of the goal, upright, 4 cm        within 7 cm of the goal
               further from its place at the machine than
               when the stage began
drawer-open    pulled out at least 15 cm of 16 cm                16 cm: the very stop
drawer-close   at most 1.3 cm out                                same
door-open      handle within 8 cm in x of 0.3 m from the hinge   same
door-close     handle within 8 cm of its closed place            same
window-open    slid at least 19 cm of 20 cm                      same
window-close   slid at most 4 cm                                 same
faucet-open    handle tip within 7 cm of the open place          same
faucet-close   within 0.3 rad of the closed stop                 turned 90° the other way
basketball     ball within 8 cm of 5 cm above the hoop's middle  same
               (heights count twice)
shelf-place    block within 7 cm of the compartment's middle     same
button-press*  button has been 7 cm of 8 cm in since the stage   7.35 cm (topdown: 6.95), forced
               began (its spring pushes it out again)            past a soft stop at 6 cm, now
handle-press   handle at most 2.3 cm of 10 cm from its stop      same
hammer         nail driven in more than 9 cm of 10 cm            same, and the hammer in the hand
assembly       ring around the peg (2 cm), below its top         same

`done` is the stricter "nothing is left to do", at which the demonstrator stops.
"""

from __future__ import annotations

import numpy as np

from gen2act_sim.kinematics import Kinematics
from gen2act_sim.scenes import F64
from gen2act_sim.state import StageState

UPRIGHT = 0.8  # cosine of the largest tilt at which a mug still stands


def _mug_error(kin: Kinematics, goal_m: F64) -> float:
    if float(kin.object_axes[2, 2]) < UPRIGHT:
        return float("inf")
    return float(np.linalg.norm(kin.object_m - goal_m))


def _mug_left(kin: Kinematics, stage: StageState) -> bool:
    """Is the mug further from its place at the machine than when the stage began?"""
    place = kin.push_goal_m
    before = float(np.linalg.norm(stage.reference_object_m - place))
    return float(np.linalg.norm(kin.object_m - place)) > before + 0.04


def _door_open_error(kin: Kinematics) -> float:
    return abs(float(kin.geom_m("handle")[0] - (kin.fixture_m[0] - 0.3)))


def _door_closed_error(kin: Kinematics) -> float:
    target = kin.fixture_m + np.array([0.2, -0.2, 0.0])
    return float(np.linalg.norm(kin.geom_m("handle") - target))


def _faucet_open_error(kin: Kinematics) -> float:
    target = kin.fixture_m + np.array([0.175, 0.0, 0.125])
    return float(np.linalg.norm(kin.site_m("handleStartOpen") - np.array([0, 0, 0.01]) - target))


def _button_needed(reference_q: float) -> float:
    # A button that was already in when the stage began has to go in further.
    return max(0.01, min(reference_q + 0.004, 0.028))


def progress(kin: Kinematics, stage: StageState, pull_goal_m: F64) -> tuple[bool, bool]:
    """(success, done) of a stage's task in the present state.

    Args:
        kin: view of the state.
        stage: the task and how things were when it began.
        pull_goal_m: where the mug of coffee-pull belongs [3].
    """
    task, once = stage.task, stage.success_once
    q = kin.fixture_q
    match task:
        case "coffee-push":
            error = _mug_error(kin, kin.push_goal_m)
            return error <= 0.07, error <= 0.07 and _mug_error(kin, kin.parking_m) <= 0.025
        case "coffee-button":
            needed = _button_needed(stage.reference_q)
            return once or q >= needed, q >= max(0.02, needed) or (once and q < 0.01)
        case "coffee-pull":
            error = _mug_error(kin, pull_goal_m)
            return error <= 0.07 and _mug_left(kin, stage), error <= 0.035
        case "drawer-open":
            return q <= -0.15, q <= -0.156
        case "drawer-close":
            return q >= -0.013, q >= -0.006
        case "door-open":
            error = _door_open_error(kin)
            return error <= 0.08, error <= 0.05
        case "door-close":
            error = _door_closed_error(kin)
            return error <= 0.08, q >= -0.02
        case "window-open":
            return q >= 0.19, q >= 0.195
        case "window-close":
            return q <= 0.04, q <= 0.01
        case "faucet-open":
            error = _faucet_open_error(kin)
            return error <= 0.07, error <= 0.045
        case "faucet-close":
            return q <= 0.3, q <= 0.12
        case "basketball":
            error = float(np.linalg.norm((kin.object_m - kin.hoop_m) * (1.0, 1.0, 2.0)))
            return error <= 0.08, error <= 0.05
        case "shelf-place":
            error = float(np.linalg.norm(kin.object_m - kin.shelf_goal_m))
            return error <= 0.07, error <= 0.05
        case "button-press" | "button-press-topdown":
            return once or q <= -0.07, once
        case "handle-press":
            return q <= -0.077, q <= -0.09
        case "hammer":
            return q >= 0.09, q >= 0.095
        case "assembly":
            below = kin.fixture_m + np.array([0.0, 0.0, 0.05]) - kin.object_m
            aside = float(np.linalg.norm(below[:2]))
            depth = float(below[2])
            return aside < 0.02 and depth > 0.0, aside < 0.02 and depth > 0.012
    raise KeyError(task)
