"""Rows of the tables: three success figures per task, intervals, means; all as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from .episodes import EXPERT
from .store import EpisodeResult, Key
from .suites import Case
from .videos import SHUFFLED, shares_scene


@dataclass(frozen=True)
class Row:
    """One task of one case with one video, over all seeds."""

    case: Case
    stage: int  # from 0
    task: str
    video: str
    of: int  # episodes; a stage that was never begun counts as a miss
    success: int  # at the end
    success_once: int
    terminated: int  # ended by the policy's own terminate
    no_video: int  # of the misses, those where no human video could be made
    ticks: float  # mean over the stages that were run; 0 where none was
    missed_seeds: tuple[int, ...]

    @property
    def label(self) -> str:
        many = len(self.case.tasks) > 1
        return f"{self.case.id}, {self.stage + 1} {self.task}" if many else self.case.id

    @property
    def is_last(self) -> bool:
        """Its success is the success of the case."""
        return self.stage == len(self.case.tasks) - 1

    @property
    def rate(self) -> float:
        return self.success / self.of if self.of else 0.0

    @property
    def wilson_95(self) -> tuple[float, float]:
        """95 % Wilson interval of the success at the end."""
        return wilson_95(self.success, self.of)


@dataclass(frozen=True)
class Mean:
    """Means of the rates of several cases (of a chain: of its last stage)."""

    cases: int
    success: float
    success_once: float
    terminated: float
    wilson_95: tuple[float, float]  # of the success, episodes of all cases pooled


@dataclass(frozen=True)
class Control:
    """Success with the right video and with another task's, where tasks share a scene."""

    video: str
    cases: int
    with_video: float
    with_shuffled: float

    @property
    def ignores_video(self) -> bool:
        """The mean falls by less than half: what is shown hardly decides what is done."""
        return self.with_shuffled > 0.5 * self.with_video


def wilson_95(successes: int, trials: int) -> tuple[float, float]:
    """95 % Wilson interval of a rate; (0, 1) where nothing was tried."""
    if not trials:
        return 0.0, 1.0
    found = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def rows(
    results: Mapping[Key, EpisodeResult], cases: Sequence[Case], video: str, seeds: Iterable[int]
) -> list[Row]:
    """A row per case and stage from the episodes there are.

    The expert's episodes are those of the case's name: a look does not change what it does.
    """
    made = []
    for case in cases:
        name = case.name if video == EXPERT else case.id
        keys = [(name, video, seed) for seed in seeds]
        episodes = [results[key] for key in keys if key in results]
        made += [_row(case, stage, video, episodes) for stage in range(len(case.tasks))]
    return made


def _row(case: Case, stage: int, video: str, episodes: Sequence[EpisodeResult]) -> Row:
    begun = [episode.stages[stage] for episode in episodes if len(episode.stages) > stage]
    run = [result for result in begun if not result.reason]
    won = {e.seed for e in episodes if len(e.stages) > stage and e.stages[stage].success}
    return Row(
        case=case,
        stage=stage,
        task=case.tasks[stage],
        video=video,
        of=len(episodes),
        success=len(won),
        success_once=sum(result.success_once for result in begun),
        terminated=sum(result.terminated for result in begun),
        no_video=len(begun) - len(run),
        ticks=sum(result.ticks for result in run) / len(run) if run else 0.0,
        missed_seeds=tuple(e.seed for e in episodes if e.seed not in won),
    )


def mean(of_rows: Iterable[Row]) -> Mean:
    """Over cases, each with the same weight."""
    last = [row for row in of_rows if row.is_last and row.of]
    count = max(1, len(last))
    return Mean(
        cases=len(last),
        success=sum(row.rate for row in last) / count,
        success_once=sum(row.success_once / row.of for row in last) / count,
        terminated=sum(row.terminated / row.of for row in last) / count,
        wilson_95=wilson_95(sum(row.success for row in last), sum(row.of for row in last)),
    )


def controls(by_video: Mapping[str, Sequence[Row]]) -> list[Control]:
    """Every other video against the shuffled one, if that was run."""
    shuffled = [row for row in by_video.get(SHUFFLED, ()) if shares_scene(row.task)]
    found = []
    for video, all_rows in by_video.items():
        right = [row for row in all_rows if shares_scene(row.task)]
        if video not in (SHUFFLED, EXPERT) and shuffled and right:
            with_video, without = mean(right), mean(shuffled)
            found.append(Control(video, with_video.cases, with_video.success, without.success))
    return found
