"""``gen2act-eval``: closed-loop success through the exported bundle, judged by the simulator."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from gen2act_contracts.errors import BundleInvalid, Gen2ActError
from gen2act_contracts.spec import ActionDimension, check_compatible
from gen2act_policy.bundle import MANIFEST, Bundle, load_bundle
from gen2act_sim.world import DELTA_LIMIT_M

from ..data.demos import FIRST_TRAINING_SEED
from ..video_service import VideoService
from .chart import write_chart
from .episodes import EXPERT, MAX_TICKS, Job, Setup
from .errors import EvaluationError, WrongCondition
from .failures import sample, write_failures
from .progress import Progress
from .report import Report, as_json, as_markdown, by_level
from .runner import MakeEvaluator, run_jobs
from .store import EpisodeResult, Key, ResultFile, simulator_version
from .suites import SUITES, Case, Suite, build_suite
from .summary import controls, rows
from .videos import DEMONSTRATOR, LOCAL, NONE, SHUFFLED

FORMAT = 1
OUTPUT_ROOT = Path("runs/eval")
CONTROL_PERIOD_S = 1 / 3


def open_bundle(folder: Path) -> tuple[Bundle, tuple[str, ...] | None]:
    """The checked bundle, and the tasks its manifest says it was trained on.

    Raises:
        BundleInvalid: none there, damaged, or of another contract version.
        SpecMismatch: its actions are not the simulated robot's.
    """
    if (folder / "last.pt").exists() and not (folder / MANIFEST).exists():
        raise BundleInvalid(
            f"{folder} is a training run, not a bundle: gen2act-export --run {folder} --out ..."
        )
    bundle = load_bundle(folder)
    arm = [ActionDimension(n, "m", -DELTA_LIMIT_M, DELTA_LIMIT_M) for n in ("dx", "dy", "dz")]
    check_compatible(bundle.spec, arm, "world", CONTROL_PERIOD_S)
    training = json.loads((folder / MANIFEST).read_bytes()).get("training", {})
    tasks = training.get("tasks")
    return bundle, None if tasks is None else tuple(tasks)


def check_condition(bundle: Bundle, videos: Sequence[str]) -> None:
    """Raises WrongCondition: videos for a bundle that follows an instruction, or the reverse."""
    if bundle.conditioning == "language" and set(videos) != {NONE}:
        raise WrongCondition(
            f"bundle {bundle.name!r} follows the task's instruction, no video: --video {NONE}"
        )
    if bundle.conditioning != "language" and NONE in videos:
        raise WrongCondition(
            f"--video {NONE} is for bundles conditioned on language; {bundle.name!r} follows a "
            f"video (conditioning {bundle.conditioning})"
        )


def evaluate(
    suite: Suite,
    videos: Sequence[str],
    seeds: range,
    make: MakeEvaluator,
    out: Path,
    header: Mapping[str, Any],
    *,
    workers: int,
) -> tuple[list[Job], dict[Key, EpisodeResult], dict[Key, EpisodeResult]]:
    """Runs what is not on disk yet.

    Args:
        suite: what to run.
        videos: with which videos.
        seeds: below the training seeds.
        make: makes a process's evaluator.
        out: folder of the results; the expert's, which no bundle changes, lie beside it.
        header: conditions of the policy's results; "simulator" decides the expert's too.
        workers: processes.

    Returns:
        the policy's jobs, its results, and the expert's results.

    Raises:
        EvaluationError: as `ResultFile` and `run_jobs`.
    """
    plain = {case.name: Case(case.name, case.tasks) for case in suite.cases}
    ceiling = [Job(case, EXPERT, seed) for seed in seeds for case in plain.values()]
    jobs = [Job(c, video, seed) for video in videos for seed in seeds for c in suite.cases]
    simulator = str(header["simulator"])
    # Both are opened first: a file of other conditions is to be seen before time is spent.
    files = (
        ResultFile(
            out.parent / f"{EXPERT}-{simulator[:12]}.jsonl",
            {"format": FORMAT, "simulator": simulator},
        ),
        ResultFile(out / "results.jsonl", {"format": FORMAT, **header}),
    )
    wanted = [*((job, files[0]) for job in ceiling), *((job, files[1]) for job in jobs)]
    left = [job for job, file in wanted if job.key not in file.results]
    if len(left) < len(wanted):
        print(f"{len(wanted) - len(left)} of {len(wanted)} episodes are on disk already")
    progress = Progress(len(left))
    try:
        for result in run_jobs(left, make, workers=workers):
            files[result.video != EXPERT].add(result)
            progress.add(result)
    finally:
        progress.close()
    return jobs, files[1].results, files[0].results


def write_report(report: Report, out: Path) -> None:
    """report.json, report.md and chart.png."""
    data = as_json(report)
    (out / "report.json").write_text(json.dumps(data, indent=1) + "\n")
    (out / "report.md").write_text(as_markdown(report, data))
    write_chart(report, out / "chart.png")


def run_suite(args: argparse.Namespace) -> None:
    """The command `suite`."""
    bundle, trained = open_bundle(args.bundle)
    only = [name.strip() for name in args.only.split(",") if name.strip()]
    suite = build_suite(args.suite, only=only, trained=trained)
    for what, why in suite.missing.items():
        print(f"not available: {what}: {why}")
    videos = list(dict.fromkeys(args.video))
    check_condition(bundle, videos)
    for video in videos:
        if video not in LOCAL:
            with closing(VideoService(args.videogen, args.redis)) as service:
                service.check(video)
    out = args.out or OUTPUT_ROOT / f"{suite.name}-{bundle.model_hash[:8]}"
    setup = Setup(args.bundle.resolve(), args.max_ticks, args.videogen, args.redis)
    header = {
        "bundle": bundle.model_hash,
        "simulator": simulator_version(),
        "max_ticks": args.max_ticks,
    }
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    jobs, results, ceiling = evaluate(
        suite, videos, seeds, setup, out, header, workers=args.workers
    )
    by_video = {video: rows(results, suite.cases, video, seeds) for video in videos}
    report = Report(
        suite=suite.name,
        arguments=args.arguments,
        bundle_name=bundle.name,
        bundle_hash=bundle.model_hash,
        simulator=header["simulator"],
        seeds=seeds,
        max_ticks=args.max_ticks,
        rows=by_video | {EXPERT: rows(ceiling, suite.cases, EXPERT, seeds)},
        missing=suite.missing,
    )
    write_report(report, out)
    _print(report)
    # With another task's video a failure is what is wanted.
    shown = [row for video in videos if video != SHUFFLED for row in by_video[video]]
    chosen = sample(shown, jobs, args.failures)
    written = write_failures(chosen, setup(), results, out / "failures") if chosen else []
    print(f"{out}/report.md, report.json, chart.png, results.jsonl, {len(written)} failure videos")


def _print(report: Report) -> None:
    for video, all_rows in report.rows.items():
        for row in all_rows:
            print(
                f"{video:>14}  {row.label:<34} {row.success:>3} of {row.of}, once "
                f"{row.success_once}, own terminate {row.terminated}, {row.ticks:.1f} ticks"
            )
        for level, value in by_level(all_rows).items():
            low, high = value.wilson_95
            name = f"mean {level}".strip()
            print(f"{video:>14}  {name:<34} {value.success:.0%} ({low:.0%} to {high:.0%})")
    for control in controls(report.rows):
        print(
            f"tasks that share a scene: {control.with_video:.0%} with {control.video} videos, "
            f"{control.with_shuffled:.0%} with another task's"
            + (": the policy hardly reads its video" if control.ignores_video else "")
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gen2act-eval", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    suite = commands.add_parser("suite", help="run a suite of tasks and write its tables")
    suite.add_argument("--bundle", required=True, type=Path, help="folder of an exported bundle")
    suite.add_argument("--suite", required=True, help=f"one of: {', '.join(SUITES)}")
    suite.add_argument("--only", default="", help="comma-separated tasks, activities or levels")
    suite.add_argument(
        "--video",
        nargs="+",
        default=[DEMONSTRATOR],
        help="one or more of: demonstrator; shuffled (the control: another task's video); "
        "other-instance (the same task in another scene); a backend of a running video service, "
        "e.g. learned; or none alone, for a bundle that follows the instruction",
    )
    suite.add_argument("--episodes", type=int, default=10, help="seeds of each task")
    suite.add_argument("--first-seed", type=int, default=100)
    suite.add_argument("--max-ticks", type=int, default=MAX_TICKS, help="budget of a stage")
    suite.add_argument("--workers", type=int, default=1, help="processes")
    suite.add_argument("--failures", type=int, default=1, help="MP4s per task and video")
    suite.add_argument("--out", type=Path, help=f"default: {OUTPUT_ROOT}/<suite>-<bundle>")
    suite.add_argument(
        "--videogen", default=Setup.videogen, help="address of the video service (%(default)s)"
    )
    suite.add_argument(
        "--redis", default=Setup.redis_url, help="the store it writes to (%(default)s)"
    )
    suite.set_defaults(run=run_suite)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parser.parse_args(arguments)
    args.arguments = arguments
    for name, least in (("episodes", 1), ("workers", 1), ("max_ticks", 1), ("failures", 0)):
        if getattr(args, name) < least:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: want {least} or more")
    if args.first_seed < 0 or args.first_seed + args.episodes > FIRST_TRAINING_SEED:
        parser.error(
            f"seeds {args.first_seed} to {args.first_seed + args.episodes - 1}: want 0 to "
            f"{FIRST_TRAINING_SEED - 1}; from {FIRST_TRAINING_SEED} on they are for training"
        )
    try:
        args.run(args)
    except (EvaluationError, Gen2ActError) as error:
        print(f"gen2act-eval: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
