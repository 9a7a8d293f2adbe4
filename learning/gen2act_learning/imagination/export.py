"""A trained run becomes the ONNX bundle that the video service loads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor

from gen2act_sim import TASKS

from ..onnx_graph import write_graph
from .graphs import FRAME_INPUTS, NOISE, PLAN_OUTPUTS, FrameGraph, PlanGraph
from .hand import fitted_hand_painter
from .networks import NetworkConfig, Networks, make_networks, saved_network
from .scenes import IMAGE_SIZE
from .text import MAX_WORDS, TaskReader, train_reader

FPS = 5.0  # the training videos last three seconds, more or less
_TOLERANCE = 1.5  # [levels of 255] mean difference of a frame between torch and ONNX


class GateFailed(RuntimeError):
    """The exported graphs do not paint what the trained networks do."""


class Imagination(NamedTuple):
    """The whole model in torch."""

    tasks: tuple[str, ...]
    vocabulary: list[str]
    reader: TaskReader
    plan: PlanGraph
    frame: FrameGraph
    training: dict[str, Any]


def load_run(run: Path) -> Imagination:
    """Trained networks of a run; the sentence reader and the hand's light are made here."""
    saved = {name: saved_network(run / f"{name}.pt") for name in Networks._fields}
    tasks = tuple(saved["planner"]["tasks"])
    if any(tuple(part["tasks"]) != tasks for part in saved.values()):
        raise ValueError(f"the parts in {run} were trained for different tasks")
    networks = make_networks(NetworkConfig(tasks))
    for name, net in networks._asdict().items():
        net.load_state_dict(saved[name]["weights"])
    return assemble(networks, {name: part["training"] for name, part in saved.items()})


def assemble(
    networks: Networks, training: dict[str, Any], *, reader_steps: int = 1500
) -> Imagination:
    """The model around trained networks; `training` says how they were."""
    tasks = networks.planner.cfg.tasks
    reader, vocabulary = train_reader(tasks, reader_steps)
    plan = PlanGraph(*networks)
    frame = FrameGraph(networks.painter, fitted_hand_painter(IMAGE_SIZE))
    return Imagination(tasks, vocabulary, reader, plan.eval(), frame.eval(), training)


@torch.no_grad()
def write_graphs(model: Imagination, folder: Path) -> None:
    """`text.onnx`, `plan.onnx` and `frame.onnx`."""
    ids = torch.zeros(1, MAX_WORDS, dtype=torch.int64)
    write_graph(model.reader, {"words": ids}, ("logits",), folder / "text.onnx")
    inputs = _plan_inputs(np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), 0, 0, 16)
    frames = torch.export.Dim("frames", min=2, max=512)
    write_graph(model.plan, inputs, PLAN_OUTPUTS, folder / "plan.onnx", {"progress": {0: frames}})
    plan = dict(zip(PLAN_OUTPUTS, model.plan(*inputs.values()), strict=True))
    at = frame_inputs(plan, inputs["task"], 0)
    write_graph(model.frame, at, ("frame",), folder / "frame.onnx")


def _plan_inputs(scene: np.ndarray, task: int, seed: int, frames: int) -> dict[str, Tensor]:
    noise = np.random.default_rng(seed).standard_normal(NOISE).astype(np.float32)
    return {
        "scene": torch.from_numpy(scene.copy())[None],
        "task": torch.tensor([task]),
        "noise": torch.from_numpy(noise),
        "progress": torch.linspace(0, 1, frames),
    }


def frame_inputs(plan: dict[str, Tensor], task: Tensor, index: int) -> dict[str, Tensor]:
    """Of a plan, what its frame `index` needs."""
    timed = ("hand_m", "opening", "moved_px")
    rows = {name: plan[name][index : index + 1] for name in timed}
    return {name: task if name == "task" else rows.get(name, plan.get(name, task))
            for name in FRAME_INPUTS}  # fmt: skip


@torch.no_grad()
def imagine(model: Imagination, scene: np.ndarray, task: str, seed: int, frames: int) -> np.ndarray:
    """The video by torch, uint8 [N, S, S, 3]."""
    inputs = _plan_inputs(scene, model.tasks.index(task), seed, frames)
    plan = dict(zip(PLAN_OUTPUTS, model.plan(*inputs.values()), strict=True))
    pictures = [model.frame(*frame_inputs(plan, inputs["task"], i).values()) for i in range(frames)]
    return torch.stack(pictures).numpy()


def differences(
    model: Imagination, folder: Path, scenes: list[tuple[np.ndarray, str]], frames: int = 4
) -> float:
    """Largest mean difference of a frame between torch and ONNX [levels of 255]."""
    plan, frame = (
        ort.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        for name in ("plan", "frame")
    )
    worst = 0.0
    for seed, (scene, task) in enumerate(scenes):
        expected = imagine(model, scene, task, seed, frames)
        inputs = _plan_inputs(scene, model.tasks.index(task), seed, frames)
        made = plan.run(None, {name: value.numpy() for name, value in inputs.items()})
        plan_out = {n: torch.from_numpy(v) for n, v in zip(PLAN_OUTPUTS, made, strict=True)}
        for index in range(frames):
            at = frame_inputs(plan_out, inputs["task"], index)
            (picture,) = frame.run(None, {name: value.numpy() for name, value in at.items()})
            error = np.abs(picture.astype(np.float64) - expected[index]).mean()
            worst = max(worst, float(error))
    return worst


def export(
    model: Imagination,
    out: Path,
    scenes: list[tuple[np.ndarray, str]],
) -> dict[str, Any]:
    """Writes the bundle; raises `GateFailed` if ONNX and torch paint different frames."""
    out.mkdir(parents=True, exist_ok=True)
    write_graphs(model, out)
    difference = differences(model, out, scenes)
    if difference > _TOLERANCE:
        raise GateFailed(f"torch and ONNX differ by {difference:.2f} levels, {_TOLERANCE} may be")
    files = {name: out / f"{name}.onnx" for name in ("text", "plan", "frame")}
    manifest = {
        "format": 1,
        "name": "imagination",
        "image_size": IMAGE_SIZE,
        "fps": FPS,
        "noise": NOISE,
        "max_words": MAX_WORDS,
        "tasks": [{"id": t, "instruction": TASKS[t].instruction} for t in model.tasks],
        "vocabulary": model.vocabulary,
        "graphs": {
            name: {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for name, path in files.items()
        },
        "training": model.training,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in files.values())
    return {"bundle": str(out), "bytes": size, "difference": round(difference, 3)}
