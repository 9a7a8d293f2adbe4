"""``gen2act-train``: behaviour cloning within a time budget; resumes where it stopped."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import torch

from gen2act_contracts.errors import Gen2ActError
from gen2act_policy.bundle import Conditioning

from .config import PRESETS, LossWeights, TrainConfig
from .data.errors import DatasetError
from .trainer import CheckpointMismatch, Trainer


def _parser() -> argparse.ArgumentParser:
    defaults = TrainConfig(data=(), out="")
    parser = argparse.ArgumentParser(prog="gen2act-train", description=__doc__)
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        help="datasets: FOLDER each, or FOLDER:WEIGHT each, e.g. demos:2 mine:1",
    )
    parser.add_argument("--out", required=True, help="run folder; an existing run is resumed")
    parser.add_argument("--minutes", type=float, default=defaults.minutes, help="time budget [min]")
    parser.add_argument("--steps", type=int, help="end each phase after so many steps")
    parser.add_argument("--episodes-per-step", type=int, default=defaults.episodes_per_step)
    parser.add_argument("--times-per-episode", type=int, default=defaults.times_per_episode)
    parser.add_argument("--lr", type=float, default=defaults.lr)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=defaults.threads, help="CPU threads")
    parser.add_argument("--preset", default="tiny", choices=list(PRESETS), help="model size")
    parser.add_argument(
        "--conditioning",
        default=defaults.conditioning,
        choices=get_args(Conditioning),
        help="what the policy follows: the human video of this scene; or, the paper's baselines: "
        "only its last frame; the video of another episode of the same task; the instruction",
    )
    parser.add_argument(
        "--resampled-only",
        action="store_true",
        help="as in the paper: the decoder sees no frame's keypoints beside the resampled tokens",
    )
    parser.add_argument(
        "--no-proprioception",
        action="store_true",
        help="frames only; for data without the end effector's position",
    )
    parser.add_argument(
        "--track-weight",
        type=float,
        default=defaults.loss.track,
        help="of the track losses (%(default)s); 0 is the paper's ablation",
    )
    parser.add_argument(
        "--no-track-loss",
        dest="track_weight",
        action="store_const",
        const=0.0,
        help="the same as --track-weight 0",
    )
    parser.add_argument(
        "--pretrain-minutes",
        type=float,
        default=0.0,
        help="part of --minutes spent on the frame encoder alone (finding landmarks)",
    )
    parser.add_argument(
        "--pretrain-episodes-per-step", type=int, default=defaults.pretrain_episodes_per_step
    )
    parser.add_argument(
        "--freeze-encoder",
        action="store_true",
        help="encode every frame once with the run's current encoder and train the rest",
    )
    parser.add_argument(
        "--encoder-from", help="run folder: begin with its frame encoder (a new run only)"
    )
    return parser


def _config(args: argparse.Namespace) -> TrainConfig:
    return TrainConfig(
        data=tuple(args.data),
        out=args.out,
        minutes=args.minutes,
        steps=args.steps,
        conditioning=args.conditioning,
        episodes_per_step=args.episodes_per_step,
        times_per_episode=args.times_per_episode,
        lr=args.lr,
        seed=args.seed,
        device=args.device,
        threads=args.threads,
        pretrain_minutes=args.pretrain_minutes,
        pretrain_episodes_per_step=args.pretrain_episodes_per_step,
        freeze_encoder=args.freeze_encoder,
        encoder_from=args.encoder_from,
        model=replace(
            PRESETS[args.preset],
            direct_tokens=not args.resampled_only,
            proprioception=not args.no_proprioception,
        ),
        loss=replace(LossWeights(), track=args.track_weight),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    try:
        Trainer(_config(args)).run()
    except (DatasetError, CheckpointMismatch, Gen2ActError) as error:
        print(f"gen2act-train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
