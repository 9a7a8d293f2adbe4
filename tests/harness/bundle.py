"""A model bundle whose behaviour a test can foresee: it moves on, and ends when the view is bright.

Three real ONNX graphs with a few parameters each, so that a task's course depends only on what
the robot shows: a dark picture means "go on", a bright one means "terminate".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gen2act_contracts.spec import ActionDimension, ActionSpec
from gen2act_policy.bundle import write_manifest

SIZE = 64  # [px] side of the images
PERIOD_S = 0.1  # [s] quicker than a real policy's, so that tests are
CHUNK = 4
BINS = 256
MOVING_BIN = 140  # about +2.5 mm per period in every direction
BRIGHT = 200.0  # mean level from which the view means "done"

_FLOAT = TensorProto.FLOAT


def spec() -> ActionSpec:
    return ActionSpec(
        dimensions=tuple(ActionDimension(name, "m", -0.05, 0.05) for name in ("dx", "dy", "dz")),
        frame="world",
        control_period_s=PERIOD_S,
        chunk_length=CHUNK,
        image_size=SIZE,
    )


def _save(
    directory: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]],
) -> None:
    initializers = [numpy_helper.from_array(value, label) for label, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(directory / f"{name}.onnx"))


def write_bundle(directory: Path) -> Path:
    """Writes the bundle; returns its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    info, node = helper.make_tensor_value_info, helper.make_node
    mean_level = [
        node("Cast", ["image"], ["level"], to=_FLOAT),
        node("ReduceMean", ["level"], ["mean"], axes=[1, 2, 3], keepdims=1),
        node("Reshape", ["mean", "shape"], ["features"]),
    ]
    _save(
        directory,
        "frame_encoder",
        mean_level,
        [info("image", TensorProto.UINT8, ["B", SIZE, SIZE, 3])],
        [info("features", _FLOAT, ["B", 1, 1])],
        {"shape": np.array([-1, 1, 1])},
    )
    _save(
        directory,
        "goal_resampler",
        [
            node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=0),
            node("Tile", ["mean", "times"], ["goal"]),
        ],
        [info("features", _FLOAT, ["B", 16, 1, 1])],
        [info("goal", _FLOAT, ["B", 64, 1])],
        {"times": np.array([1, 64, 1])},
    )
    logits = np.zeros((1, CHUNK, 3, BINS), np.float32)
    logits[..., MOVING_BIN] = 1.0
    _save(
        directory,
        "step",
        [
            # The goal takes part, times nothing: a graph must use its inputs.
            node("ReduceMean", ["goal"], ["goal_mean"], axes=[1, 2], keepdims=0),
            node("Mul", ["goal_mean", "nothing"], ["zero"]),
            node("Gather", ["history", "newest"], ["now"], axis=1),
            node("Reshape", ["now", "flat"], ["level"]),
            node("Sub", ["level", "bright"], ["excess"]),
            node("Add", ["excess", "zero"], ["terminate_logits"]),
            node("Reshape", ["zero", "column"], ["zero_column"]),
            node("Reshape", ["zero", "four"], ["zero_four"]),
            node("Add", ["zero_column", "open"], ["gripper_logits"]),
            node("Add", ["zero_four", "moving"], ["action_logits"]),
        ],
        [info("history", _FLOAT, ["B", 8, 1, 1]), info("goal", _FLOAT, ["B", 64, 1])],
        [
            info("action_logits", _FLOAT, ["B", CHUNK, 3, BINS]),
            info("gripper_logits", _FLOAT, ["B", CHUNK]),
            info("terminate_logits", _FLOAT, ["B"]),
        ],
        {
            "nothing": np.array(0.0, np.float32),
            "newest": np.array(7),
            "flat": np.array([-1]),
            "bright": np.array(BRIGHT, np.float32),
            "column": np.array([-1, 1]),
            "four": np.array([-1, 1, 1, 1]),
            "open": np.full((1, CHUNK), -5.0, np.float32),
            "moving": logits,
        },
    )
    write_manifest(directory, "foreseeable", spec(), training={"note": "for tests, not learned"})
    return directory
