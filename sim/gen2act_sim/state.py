"""World states as bytes: JSON with a size bound and validation, never pickle.

The bytes travel with scene frames through services that must not look inside, so they are
treated as outside input.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gen2act_sim.errors import InvalidState
from gen2act_sim.initial import Variation
from gen2act_sim.scenes import F64
from gen2act_sim.tasks import SCENES

VERSION = 2
MAX_BYTES = 16_384
_MAX_NUMBER = 1e6  # larger positions or speeds are no state of this simulator


@dataclass(frozen=True)
class StageState:
    """Reference of the current stage."""

    task: str
    reference_q: float  # fixture joint when the stage began [m or rad]
    reference_object_m: tuple[float, float, float]  # loose object then
    success_once: bool


@dataclass(frozen=True)
class WorldState:
    """Decoded state of a `World`."""

    scene: str
    seed: int
    variation: Variation
    stage: StageState | None
    vector: F64  # time, qpos, qvel, warm start, ctrl, mocap as MuJoCo lays them out


def encode_state(state: WorldState) -> bytes:
    """Exact: JSON writes floats so that they read back bit-identical."""
    stage = state.stage
    document = {
        "version": VERSION,
        "scene": state.scene,
        "seed": state.seed,
        "fixture_m": state.variation.fixture_m.tolist(),
        "object_start_m": state.variation.object_start_m.tolist(),
        "pull_goal_m": state.variation.pull_goal_m.tolist(),
        "stage": None
        if stage is None
        else {
            "task": stage.task,
            "reference_q": stage.reference_q,
            "reference_object_m": list(stage.reference_object_m),
            "success_once": stage.success_once,
        },
        "vector": state.vector.tolist(),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _numbers(document: dict[str, Any], key: str, size: int | None) -> F64:
    value = document.get(key)
    if not isinstance(value, list) or (size is not None and len(value) != size):
        raise InvalidState(f"{key}: want a list of {size or 'some'} numbers")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise InvalidState(f"{key}: {item!r} is not a number")
        if not math.isfinite(item) or abs(item) > _MAX_NUMBER:
            raise InvalidState(f"{key}: {item!r} is out of range")
    return np.array(value, dtype=np.float64)


def _stage(value: object, scene: str) -> StageState | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidState("stage: want an object or null")
    task = value.get("task")
    if task not in SCENES[scene]:
        raise InvalidState(f"stage: {task!r} is no task of scene {scene!r}")
    reference = _numbers({"reference_q": [value.get("reference_q")]}, "reference_q", 1)
    x, y, z = _numbers(value, "reference_object_m", 3).tolist()
    return StageState(
        task, float(reference[0]), (x, y, z), success_once=value.get("success_once") is True
    )


def decode_state(state: bytes) -> WorldState:
    """Checks everything that can be checked without the scene's model.

    Raises:
        InvalidState: with the reason.
    """
    if len(state) > MAX_BYTES:
        raise InvalidState(f"{len(state)} bytes, at most {MAX_BYTES} are accepted")
    try:
        document = json.loads(state)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidState(f"not a simulator state: {error}") from error
    if not isinstance(document, dict):
        raise InvalidState("not a simulator state: want a JSON object")
    if document.get("version") != VERSION:
        raise InvalidState(f"version {document.get('version')!r}, this simulator reads {VERSION}")
    scene, seed = document.get("scene"), document.get("seed")
    if not isinstance(scene, str) or scene not in SCENES:
        raise InvalidState(f"unknown scene {scene!r}; known: {', '.join(SCENES)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or abs(seed) > 2**63:
        raise InvalidState(f"seed {seed!r} is not a 64-bit integer")
    variation = Variation(
        _numbers(document, "fixture_m", 3),
        _numbers(document, "object_start_m", 3),
        _numbers(document, "pull_goal_m", 3),
    )
    stage = _stage(document.get("stage"), scene)
    return WorldState(scene, seed, variation, stage, _numbers(document, "vector", None))
