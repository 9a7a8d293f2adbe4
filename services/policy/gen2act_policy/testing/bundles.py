"""A small bundle with random weights. Needs the package `onnx`."""

from pathlib import Path
from typing import Any

import numpy as np

from gen2act_contracts.spec import ActionDimension, ActionSpec
from gen2act_policy.bundle import Conditioning, write_manifest
from gen2act_policy.history import Floats
from gen2act_policy.words import BUCKETS, WORDS


def small_spec(
    *, image_size: int = 32, chunk_length: int = 4, uses_proprioception: bool = False
) -> ActionSpec:
    """The first policy's action spec, with smaller images."""
    return ActionSpec(
        dimensions=tuple(ActionDimension(name, "m", -0.05, 0.05) for name in ("dx", "dy", "dz")),
        frame="world",
        control_period_s=1 / 3,
        chunk_length=chunk_length,
        image_size=image_size,
        uses_proprioception=uses_proprioception,
        model_hash="f" * 64,
    )


def write_random_bundle(
    directory: Path,
    spec: ActionSpec,
    *,
    conditioning: Conditioning = "video",
    training: dict[str, Any] | None = None,
    seed: int = 0,
    width: int = 8,
    name: str = "random",
) -> str:
    """Writes a complete bundle of tiny random graphs; returns its model hash.

    Outputs depend on every input (each frame of the history, the goal, proprioception), so a
    mixed-up order changes them.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    size, history = spec.image_size, spec.history_length
    dims, chunk, bins = len(spec.dimensions), spec.chunk_length, spec.bins
    patch, tokens, goal_frames = size // 4, 16, 16
    directory.mkdir(parents=True, exist_ok=True)

    def const(label: str, value: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> object:
        return numpy_helper.from_array(value, label)

    def weights(*shape: int, gain: float = 1.0) -> Floats:
        fan_in = int(np.prod(shape[:-1]))
        return np.asarray(gain * rng.standard_normal(shape) / np.sqrt(fan_in), np.float32)

    def info(label: str, shape: list[str | int], kind: int = TensorProto.FLOAT) -> object:
        return helper.make_tensor_value_info(label, kind, shape)

    def save(
        graph: str, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]
    ) -> None:
        made = helper.make_graph(nodes, graph, inputs, outputs, constants)
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, str(directory / f"{graph}.onnx"))

    node = helper.make_node
    save(
        "frame_encoder",
        [
            node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            node("Div", ["float", "scale"], ["unit"]),
            node("Transpose", ["unit"], ["nchw"], perm=[0, 3, 1, 2]),
            node("Conv", ["nchw", "kernel"], ["patches"], strides=[patch, patch]),
            node("Reshape", ["patches", "flat"], ["rows"]),
            node("Transpose", ["rows"], ["tokens"], perm=[0, 2, 1]),
            node("Tanh", ["tokens"], ["features"]),
        ],
        [info("image", ["B", size, size, 3], TensorProto.UINT8)],
        [info("features", ["B", tokens, width])],
        [
            const("scale", np.array(32.0, np.float32)),
            const("kernel", np.moveaxis(weights(patch, patch, 3, width), (3, 2), (0, 1)).copy()),
            const("flat", np.array([0, width, tokens])),
        ],
    )
    if conditioning == "language":
        goal_graph, rows = "instruction_encoder", WORDS
        to_rows = node("Gather", ["embeddings", "words"], ["rows"])
        source = info("words", ["B", WORDS], TensorProto.INT64)
        constant = const("embeddings", weights(BUCKETS + 1, width, gain=30))
    else:
        goal_graph, rows = "goal_resampler", goal_frames * tokens
        to_rows = node("Reshape", ["features", "by_token"], ["rows"])
        source = info("features", ["B", goal_frames, tokens, width])
        constant = const("by_token", np.array([0, rows, width]))
    save(
        goal_graph,
        [
            to_rows,
            node("MatMul", ["mix", "rows"], ["mixed"]),
            node("Tanh", ["mixed"], ["goal"]),
        ],
        [source],
        [info("goal", ["B", 64, width])],
        [constant, const("mix", weights(rows, 64, gain=4).T.copy())],
    )
    flat = history * tokens * width + 64 * width
    flat += history * 4 if spec.uses_proprioception else 0
    heads = {"action": chunk * dims * bins, "gripper": chunk, "terminate": 1}
    parts = ["history_rows", "goal_rows"]
    nodes = [
        node("Flatten", ["history"], ["history_rows"]),
        node("Flatten", ["goal"], ["goal_rows"]),
    ]
    inputs = [info("history", ["B", history, tokens, width]), info("goal", ["B", 64, width])]
    if spec.uses_proprioception:
        nodes.append(node("Flatten", ["proprioception"], ["proprioception_rows"]))
        parts.append("proprioception_rows")
        inputs.append(info("proprioception", ["B", history, 4]))
    nodes += [
        node("Concat", parts, ["all"], axis=1),
        node("MatMul", ["all", "hidden_weights"], ["hidden_rows"]),
        node("Tanh", ["hidden_rows"], ["hidden"]),
        node("MatMul", ["hidden", "action_weights"], ["action_rows"]),
        node("Reshape", ["action_rows", "action_shape"], ["action_logits"]),
        node("MatMul", ["hidden", "gripper_weights"], ["gripper_logits"]),
        node("MatMul", ["hidden", "terminate_weights"], ["terminate_rows"]),
        node("Reshape", ["terminate_rows", "terminate_shape"], ["terminate_logits"]),
    ]
    save(
        "step",
        nodes,
        inputs,
        [
            info("action_logits", ["B", chunk, dims, bins]),
            info("gripper_logits", ["B", chunk]),
            info("terminate_logits", ["B"]),
        ],
        [
            const("hidden_weights", weights(flat, 32, gain=4)),
            *(const(f"{k}_weights", weights(32, n, gain=8)) for k, n in heads.items()),
            const("action_shape", np.array([0, chunk, dims, bins])),
            const("terminate_shape", np.array([-1])),
        ],
    )
    return write_manifest(
        directory,
        name,
        spec,
        conditioning=conditioning,
        training=training or {"note": "random weights, for tests"},
    )
