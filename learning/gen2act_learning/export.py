"""``gen2act-export``: a trained run becomes the ONNX bundle that the policy service loads."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gen2act_contracts.spec import ActionDimension, ActionSpec
from gen2act_policy.bundle import graph_names, load_bundle, write_manifest
from gen2act_policy.history import Floats
from gen2act_policy.runtime import OnnxRuntime, StepOutput
from gen2act_policy.words import WORDS, word_ids
from gen2act_sim import TASKS

from .config import SIMULATOR_ACTIONS, ModelConfig
from .data.batches import pick_frames
from .data.episodes import Episode
from .data.mixture import open_mixture
from .model import Policy
from .onnx_graph import write_graph

# Share of real steps on which torch and ONNX must agree in every bin, gripper and terminate.
AGREEMENT = 0.999


class GateFailed(RuntimeError):
    """The exported graphs do not decide as the trained network does."""


class _Step(nn.Module):
    """The `step` graph: robot frames and goal tokens to logits."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(
        self, history: Tensor, goal: Tensor, proprioception: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        robot = self.policy.robot_resampler(history)
        out = self.policy.act(robot, goal, proprioception)
        return out.action, out.gripper, out.terminate


class _Goal(nn.Module):
    """The goal's graph: a video's frames, or words, to goal tokens."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, source: Tensor) -> Tensor:
        return self.policy.goal(source)


class Trained(NamedTuple):
    policy: Policy
    spec: ActionSpec
    training: dict[str, Any]  # as the manifest has it


def load_policy(run: Path) -> Trained:
    """The averaged weights of a run's last checkpoint."""
    saved = torch.load(run / "last.pt", map_location="cpu", weights_only=True)
    shape = dict(saved["model_config"])
    shape["stem_channels"] = tuple(shape["stem_channels"])
    policy = Policy(ModelConfig(**shape), saved.get("conditioning", "video"))
    policy.load_state_dict(saved["average"])
    spec = action_spec(policy.cfg, saved.get("actions", {}))
    training = {"steps": saved["step"], "minutes": round(saved["spent_s"] / 60, 1)}
    if "tasks" in saved:
        training["tasks"] = task_names(saved["tasks"])
    return Trained(policy.eval(), spec, training)


def task_names(instructions: Iterable[str]) -> list[str]:
    """The simulator's names of its own tasks; of others, what the data call them. Sorted."""
    names = {task.instruction: name for name, task in TASKS.items()}
    return sorted({names.get(instruction, instruction) for instruction in instructions})


def action_spec(cfg: ModelConfig, actions: dict[str, Any]) -> ActionSpec:
    """Args: actions: as a checkpoint has them; {}: the simulator's."""
    told = actions.get("dimensions")
    return ActionSpec(
        dimensions=SIMULATOR_ACTIONS if told is None else tuple(ActionDimension(**d) for d in told),
        frame=actions.get("frame", "world"),
        control_period_s=1 / 3,
        chunk_length=cfg.chunk,
        history_length=cfg.history,
        image_size=cfg.image_size,
        bins=cfg.bins,
        uses_proprioception=cfg.proprioception,
    )


def write_graphs(policy: Policy, folder: Path) -> None:
    """Write the three graphs with a dynamic batch axis."""
    cfg = policy.cfg
    tokens, width = cfg.frame_tokens, cfg.width
    batch = torch.export.Dim("batch", min=1, max=1024)
    image = torch.zeros(2, cfg.image_size, cfg.image_size, 3, dtype=torch.uint8)
    source = {"features": torch.randn(2, cfg.goal_frames, tokens, width)}
    if policy.conditioning == "language":
        source = {"words": torch.zeros(2, WORDS, dtype=torch.int64)}
    encoder, goal, step = graph_names(policy.conditioning)
    step_inputs: dict[str, Tensor] = {
        "history": torch.randn(2, cfg.history, tokens, width),
        "goal": torch.randn(2, cfg.stream_tokens, width),
    }
    if cfg.proprioception:
        step_inputs["proprioception"] = torch.rand(2, cfg.history, 4)
    graphs: list[tuple[str, nn.Module, dict[str, Tensor], list[str]]] = [
        (encoder, policy.frame_encoder, {"image": image}, ["features"]),
        (goal, _Goal(policy), source, ["goal"]),
        (
            step,
            _Step(policy),
            step_inputs,
            ["action_logits", "gripper_logits", "terminate_logits"],
        ),
    ]
    for name, module, inputs, outputs in graphs:
        dynamic = {given: {0: batch} for given in inputs}
        write_graph(module, inputs, outputs, folder / f"{name}.onnx", dynamic)


@torch.no_grad()
def agreement(policy: Policy, bundle: Path, data: tuple[str, ...], steps: int) -> float:
    """Share of real steps where torch and ONNX agree on all bins, gripper and terminate."""
    runtime = OnnxRuntime(load_bundle(bundle))
    cfg = policy.cfg
    same = total = 0
    step = _Step(policy)
    for ref in open_mixture(data, cfg.image_size).episodes:
        episode = ref.load()
        goal, torch_goal = _goals(policy, runtime, episode)
        features = runtime.encode(np.ascontiguousarray(episode.images))
        torch_features = policy.frame_encoder(torch.from_numpy(np.array(episode.images)))
        state = np.concatenate([episode.ee_position_m, episode.gripper_opening[:, None]], 1)
        for t in range(len(features)):
            index = np.clip(np.arange(t - cfg.history + 1, t + 1), 0, None)
            measured = state[index][None].astype(np.float32) if cfg.proprioception else None
            onnx_out = runtime.step(features[index][None], goal[None], measured)
            torch_out = step(
                torch_features[index][None],
                torch_goal,
                None if measured is None else torch.from_numpy(measured),
            )
            same += _decisions(onnx_out) == _decisions(
                StepOutput(*(out.numpy() for out in torch_out))
            )
            total += 1
            if total == steps:
                return same / total
    return same / total


def _goals(policy: Policy, runtime: OnnxRuntime, episode: Episode) -> tuple[Floats, Tensor]:
    """What the episode asks for, as goal tokens: ONNX's [*G] and torch's [1, *G]."""
    if policy.conditioning == "language":
        words = word_ids(episode.task)
        return runtime.read(words), policy.goal(torch.from_numpy(words)[None])
    keep = pick_frames(len(episode.video), policy.cfg.goal_frames, None)
    video = np.ascontiguousarray(episode.video[keep])
    features = policy.frame_encoder(torch.from_numpy(video))[None]
    return runtime.resample(runtime.encode(video)[None]), policy.goal(features)


def _decisions(out: StepOutput) -> tuple[bytes, bytes, bytes]:
    return (
        out.action_logits.argmax(-1).astype(np.int64).tobytes(),
        (out.gripper_logits > 0).tobytes(),
        (out.terminate_logits > 0).tobytes(),
    )


def export(run: Path, out: Path, name: str, data: tuple[str, ...], steps: int) -> dict[str, Any]:
    """Write the bundle to ``out`` once it passed the gate; raises :class:`GateFailed`."""
    trained = load_policy(run)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_graphs(trained.policy, folder)
        model_hash = write_manifest(
            folder,
            name,
            trained.spec,
            conditioning=trained.policy.conditioning,
            goal_frames=trained.policy.cfg.goal_frames,
            training=trained.training,
        )
        share = agreement(trained.policy, folder, data, steps) if steps else None
        if share is not None and share < AGREEMENT:
            raise GateFailed(f"torch and ONNX agree on {share:.2%} of {steps} steps; 99.9 % wanted")
        out.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            (out / path.name).write_bytes(path.read_bytes())
    size = sum(path.stat().st_size for path in out.glob("*.onnx"))
    return {
        "bundle": str(out),
        "model_hash": model_hash,
        "bytes": size,
        "agreement": share,
    } | trained.training


def main() -> None:
    parser = argparse.ArgumentParser(prog="gen2act-export", description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="folder of a training run")
    parser.add_argument("--out", required=True, type=Path, help="folder of the bundle")
    parser.add_argument("--name", default="tiny")
    parser.add_argument("--data", nargs="+", default=[], help="episodes for the gate")
    parser.add_argument("--gate-steps", type=int, default=1000, help="0 skips the gate")
    args = parser.parse_args()
    if args.gate_steps and not args.data:
        parser.error("--data is needed for the gate (or --gate-steps 0)")
    result = export(args.run, args.out, args.name, tuple(args.data), args.gate_steps)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
