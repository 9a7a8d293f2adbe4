"""``gen2act-imagination``: scenes, training, export and evaluation of the learned video model."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from gen2act_sim import TASKS

from ..data.demos import FIRST_TRAINING_SEED
from .evaluate import measure
from .export import export, load_run
from .networks import Networks
from .scenes import load, make_scenes
from .train import TrainConfig, read_scenes, scene_files, train


def _scenes(args: argparse.Namespace) -> None:
    tasks = list(TASKS) if args.tasks == "all" else args.tasks.split(",")
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise SystemExit(f"unknown task {unknown[0]!r}; known: {', '.join(TASKS)}")
    for seed in range(args.first_seed, args.first_seed + args.scenes):
        made, dropped = make_scenes(tasks, 1, seed, args.out)
        print(f"seed {seed}: {made} scenes, {dropped} dropped", flush=True)


def _train(args: argparse.Namespace) -> None:
    cfg = TrainConfig(data=tuple(args.data), out=str(args.out), threads=args.threads)
    minutes = dict(zip(Networks._fields, args.minutes, strict=True))
    train(replace(cfg, **{f"{name}_minutes": value for name, value in minutes.items()}))


def _export(args: argparse.Namespace) -> None:
    model = load_run(args.run)
    shown = [load(path) for path in scene_files([str(args.data)])[:: args.every]]
    print(json.dumps(export(model, args.out, [(scene.scene, scene.task) for scene in shown])))


def _evaluate(args: argparse.Namespace) -> None:
    model = load_run(args.run)
    result = measure(model, read_scenes(scene_files([str(args.data)]), model.tasks))
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="gen2act-imagination", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    scenes = commands.add_parser("scenes", help="scenes and motions from the simulator")
    scenes.add_argument("--tasks", default="all", help="comma-separated task ids, or 'all'")
    scenes.add_argument("--scenes", type=int, default=150, help="per task")
    scenes.add_argument("--first-seed", type=int, default=2 * FIRST_TRAINING_SEED)
    scenes.add_argument("--out", type=Path, required=True)
    scenes.set_defaults(run_command=_scenes)
    training = commands.add_parser("train", help="the networks, one after the other")
    training.add_argument("--data", nargs="+", required=True)
    training.add_argument("--out", type=Path, required=True, help="folder of the run")
    training.add_argument(
        "--minutes",
        type=float,
        nargs=len(Networks._fields),
        default=[12.0, 2.0, 3.0, 20.0],
        metavar=tuple(name.upper() for name in Networks._fields),
        help="of processor time; 0 keeps the run's network as it is",
    )
    training.add_argument("--threads", type=int, default=1)
    training.set_defaults(run_command=_train)
    exporting = commands.add_parser("export", help="a run becomes a bundle")
    exporting.add_argument("--run", type=Path, required=True)
    exporting.add_argument("--data", type=Path, required=True, help="scenes kept out, for the gate")
    exporting.add_argument("--every", type=int, default=10, help="of these scenes, each so many'th")
    exporting.add_argument("--out", type=Path, required=True)
    exporting.set_defaults(run_command=_export)
    evaluation = commands.add_parser("eval", help="errors on scenes kept out")
    evaluation.add_argument("--run", type=Path, required=True)
    evaluation.add_argument("--data", type=Path, required=True)
    evaluation.add_argument("--out", type=Path, help="JSON")
    evaluation.set_defaults(run_command=_evaluate)
    args = parser.parse_args()
    try:
        args.run_command(args)
    except ValueError as error:
        raise SystemExit(f"gen2act-imagination: {error}") from None


if __name__ == "__main__":
    main()
