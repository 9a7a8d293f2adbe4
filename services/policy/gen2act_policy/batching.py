"""Runs the encoder and the step over many rollouts in batches of measured sizes."""

import time
from typing import TypeVar

import numpy as np

from gen2act_policy.cost import CostTable
from gen2act_policy.history import (
    Floats,
    HistoryEntry,
    Pixels,
    stack_features,
    stack_proprioception,
)
from gen2act_policy.runtime import Runtime, StepOutput

_Array = TypeVar("_Array", Pixels, Floats)


def encode_entries(
    runtime: Runtime, cost: CostTable, windows: list[tuple[HistoryEntry, ...]]
) -> float:
    """Encodes every frame of the windows that has no features yet; returns seconds.

    Padding repeats an entry inside a window; it is still encoded once.
    """
    entries = [
        entry
        for entry in dict.fromkeys(entry for window in windows for entry in window)
        if entry.features is None
    ]
    if not entries:
        return 0.0
    pixels = [entry.frame.pixels() for entry in entries if entry.frame is not None]
    images = pixels[0][None] if len(pixels) == 1 else np.stack(pixels)
    seconds, start = 0.0, 0
    for size in cost.plan(len(entries)):
        part = entries[start : start + size]
        began = time.perf_counter()
        features = runtime.encode(_padded(images[start : start + size], size))
        took = time.perf_counter() - began
        cost.update(size, took)
        seconds += took
        for i, entry in enumerate(part):  # what follows is padding
            # A copy: a view would keep the whole batch alive.
            entry.set_features(features if size == 1 else features[i : i + 1].copy())
        start += size
    return seconds


def step_rollouts(
    runtime: Runtime,
    cost: CostTable,
    windows: list[tuple[HistoryEntry, ...]],
    goals: list[Floats],
    uses_proprioception: bool,
) -> tuple[StepOutput, float]:
    """One step of every rollout; returns the outputs in order, and seconds."""
    history = stack_features(windows)
    goal = goals[0][None] if len(goals) == 1 else np.stack(goals)
    proprioception = stack_proprioception(windows) if uses_proprioception else None
    outputs: list[StepOutput] = []
    seconds, start = 0.0, 0
    for size in cost.plan(len(windows)):
        stop = min(start + size, len(windows))
        began = time.perf_counter()
        output = runtime.step(
            _padded(history[start:stop], size),
            _padded(goal[start:stop], size),
            None if proprioception is None else _padded(proprioception[start:stop], size),
        )
        took = time.perf_counter() - began
        cost.update(size, took)
        seconds += took
        outputs.append(output if size == stop - start else output.take(stop - start))
        start = stop
    if len(outputs) == 1:
        return outputs[0], seconds
    return StepOutput(
        np.concatenate([output.action_logits for output in outputs]),
        np.concatenate([output.gripper_logits for output in outputs]),
        np.concatenate([output.terminate_logits for output in outputs]),
    ), seconds


def _padded(array: _Array, size: int) -> _Array:
    """`array` with its last row repeated until it has `size` rows."""
    missing = size - len(array)
    if missing <= 0:
        return array
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
