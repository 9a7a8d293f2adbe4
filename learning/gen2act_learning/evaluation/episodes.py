"""One seed of one case: its stages without a reset between them, by the policy or the expert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gen2act_contracts.errors import Gen2ActError
from gen2act_policy.local import LocalPolicy
from gen2act_sim import TASKS, SimError, World, robot_demo

from ..video_service import VideoService
from .errors import EpisodeFailed, NoVideo
from .looks import look
from .rollout import ActingPolicy, Frames, rollout
from .store import EpisodeResult, Key, StageResult
from .suites import Case
from .videos import LOCAL, FromService, VideoSource

EXPERT = "expert"  # in the place of a video: the scripted expert acts, which is the ceiling
MAX_TICKS = 40


@dataclass(frozen=True)
class Job:
    """One episode that is to be run."""

    case: Case
    video: str  # key of `videos.LOCAL`, a backend of the video service, or "expert"
    seed: int

    @property
    def key(self) -> Key:
        """Of its result."""
        return self.case.id, self.video, self.seed

    def __str__(self) -> str:
        return f"{self.case.id}, seed {self.seed}, video {self.video}"


@dataclass(frozen=True)
class StagePictures:
    """What was shown and what the robot saw in one stage."""

    task: str
    human: Frames
    robot: Frames


Watch = Callable[[StagePictures], None]


@dataclass
class Evaluator:
    """Runs episodes one after another; lives in one process.

    Args:
        policy: what is judged.
        source: makes the video source of a name, once per name.
        max_ticks: budget of a stage.
    """

    policy: ActingPolicy
    source: Callable[[str], VideoSource]
    max_ticks: int = MAX_TICKS
    _sources: dict[str, VideoSource] = field(default_factory=dict)

    def run(self, job: Job, watch: Watch | None = None) -> EpisodeResult:
        """The episode's result; the same job gives the same result.

        Args:
            job: which.
            watch: is given the pictures of every stage that was run.

        Raises:
            EpisodeFailed: it broke off for another reason than the policy's failure.
        """
        try:
            if job.video == EXPERT:
                stages = _in_order(job, _expert_stage)
            else:
                with look(job.case.look, TASKS[job.case.tasks[0]].scene, job.seed):
                    stages = _in_order(job, partial(self._stage, watch=watch))
        except (SimError, Gen2ActError) as error:
            raise EpisodeFailed(f"{job}: {error}") from error
        return EpisodeResult(job.case.id, job.video, job.seed, tuple(stages))

    def _stage(self, job: Job, world: World, task: str, watch: Watch | None) -> StageResult:
        if job.video not in self._sources:
            self._sources[job.video] = self.source(job.video)
        try:
            video = self._sources[job.video].video(world, task, job.seed)
        except NoVideo as error:
            return StageResult(task, False, False, False, 0, reason=str(error))
        made = rollout(world, self.policy, task, video.goal, max_ticks=self.max_ticks)
        if watch is not None:
            watch(StagePictures(task, video.frames, made.frames))
        return StageResult(
            task,
            made.success,
            made.success_once,
            made.terminated,
            made.ticks,
            shown=video.task,
            made_by=video.made_by,
        )


def _in_order(job: Job, run: Callable[[Job, World, str], StageResult]) -> list[StageResult]:
    """The stages up to the first that fails, without a reset between them."""
    stages: list[StageResult] = []
    world = World(TASKS[job.case.tasks[0]].scene, job.seed)
    try:
        world.reset(job.case.tasks[0])
        for task in job.case.tasks:
            if stages:
                world.go_to_reset_pose()
            stages.append(run(job, world, task))
            if not stages[-1].success:
                break
    finally:
        world.close()
    return stages


def _expert_stage(job: Job, world: World, task: str) -> StageResult:
    demo = robot_demo(world, task, job.seed, noise=0.0)
    ticks = int((~demo.terminate).sum())
    return StageResult(task, demo.success, world.success_once, bool(demo.terminate[-1]), ticks)


@dataclass(frozen=True)
class Setup:
    """Everything a worker process needs to make its evaluator; calling it does.

    Raises:
        BundleInvalid: no bundle, a damaged one, or one of another contract version.
    """

    bundle: Path
    max_ticks: int = MAX_TICKS
    videogen: str = "127.0.0.1:50051"  # host:port, for backends of the service
    redis_url: str = "redis://127.0.0.1:6379/0"

    def __call__(self) -> Evaluator:
        # One thread each: workers share the cores, and more threads would add in another order.
        return Evaluator(LocalPolicy(self.bundle, threads=1), self.source, self.max_ticks)

    def source(self, name: str) -> VideoSource:
        """The source of a video's name; any that is not built in is a service's backend."""
        if name in LOCAL:
            return LOCAL[name]()
        return FromService(VideoService(self.videogen, self.redis_url), name)
