"""Dataset aggregation: the policy acts, the scripted expert says what it would have done.

Cheap in simulation because the experts can label any state. Data made here are kept apart from
demonstrations, so that plain behaviour cloning can be reproduced without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gen2act_policy.local import LocalPolicy
from gen2act_sim import TASKS, DemonstrationFailed, World
from gen2act_sim.landmarks import landmarks_m

from .demos import FIRST_TRAINING_SEED, video_arrays, with_landmarks, world_for
from .episodes import Episode, jpeg_round_trip
from .recorder import Recorder, prepare

POLICY_TICKS = 26  # then the expert takes over and finishes, so that the next stage can begin
MAX_TICKS = 45
REST_TICKS = 3  # ticks recorded after the expert is done: terminate = 1


def record(
    policy: LocalPolicy, world: World, task: str, rng: np.random.Generator, *, expert_share: float
) -> tuple[Episode, bool]:
    """One stage from the world as it is; True if the policy finished it without the expert."""
    arrays = video_arrays(world.get_state(), task, int(rng.integers(1 << 31)), rng)
    policy.start(arrays["video"])
    world.begin_stage(task)
    rows: dict[str, list[np.ndarray]] = {
        key: []
        for key in (
            "images",
            "ee_position_m",
            "gripper_opening",
            "actions_m",
            "gripper_closed",
            "terminate",
            "landmarks_m",
        )
    }
    rested = 0
    alone = True
    for tick in range(MAX_TICKS):
        seen = world.observe()
        delta, closed = world.expert_action()
        done = bool(world.expert_done())
        chunk, _ = policy.act(seen.image, [*seen.ee_position_m, seen.gripper_opening])
        values = (
            seen.image,
            seen.ee_position_m,
            seen.gripper_opening,
            np.zeros(3) if done else delta,
            closed,
            done,
            landmarks_m(world.kin),
        )
        for key, value in zip(rows, values, strict=True):
            rows[key].append(np.asarray(value))
        rested = rested + 1 if done else 0
        if rested > REST_TICKS:
            break
        expert_acts = tick >= POLICY_TICKS or rng.random() < expert_share
        alone &= tick < POLICY_TICKS
        if expert_acts and not done:
            world.step(np.asarray(delta), float(closed))
        else:
            world.step(chunk.values[0].astype(float), float(chunk.gripper[0]))
    if not rested:
        raise DemonstrationFailed(f"the expert could not finish {task}")
    images = jpeg_round_trip(np.stack(rows.pop("images")).astype(np.uint8), rng)
    landmarks = np.stack(rows.pop("landmarks_m"))
    stacked: dict[str, Any] = {k: np.stack(v).astype(np.float32) for k, v in rows.items()}
    labels = with_landmarks(stacked["ee_position_m"], landmarks, "")
    return Episode(
        task=TASKS[task].instruction, images=images, **arrays, **stacked, **labels
    ), alone


def make_corrections(
    policy: LocalPolicy,
    tasks: Sequence[str],
    seed: int,
    recorder: Recorder,
    *,
    expert_share: float,
) -> tuple[int, int]:
    """Record tasks of one scene as a chain; returns (episodes, of them unaided).

    A chain whose first episode is there already is not run again.
    """
    if seed < FIRST_TRAINING_SEED:
        raise ValueError(f"seed {seed} is reserved for evaluation (< {FIRST_TRAINING_SEED})")
    names = [f"{'+'.join(tasks)}-{index}-{seed}" for index in range(len(tasks))]
    if names[0] in recorder.sources:
        return 0, 0
    rng = np.random.default_rng(seed)
    world = world_for(TASKS[tasks[0]].scene, seed)
    world.reset(tasks[0])
    made = unaided = 0
    for index, task in enumerate(tasks):
        if index:
            world.go_to_reset_pose()
        try:
            episode, alone = record(policy, world, task, rng, expert_share=expert_share)
        except DemonstrationFailed:
            break
        recorder.add(prepare(episode, names[index]))
        made += 1
        unaided += alone
    return made, unaided
