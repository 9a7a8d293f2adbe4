"""One stage of a task: its states, and which may follow which."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from gen2act_contracts.errors import InvalidTransition
from gen2act_orchestrator.domain.gate import EndReason


class StageStatus(StrEnum):
    PENDING = "pending"
    RESETTING = "resetting"  # the robot goes out of view and sends the scene frame
    IMAGINING = "imagining"  # the human video is being made
    PREPARING = "preparing"  # the policy encodes the video into goal tokens
    ROLLING_OUT = "rolling_out"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_NEXT: dict[StageStatus, frozenset[StageStatus]] = {
    StageStatus.PENDING: frozenset({StageStatus.RESETTING}),
    StageStatus.RESETTING: frozenset({StageStatus.IMAGINING}),
    StageStatus.IMAGINING: frozenset({StageStatus.PREPARING}),
    StageStatus.PREPARING: frozenset({StageStatus.ROLLING_OUT}),
    StageStatus.ROLLING_OUT: frozenset({StageStatus.DONE}),
    StageStatus.DONE: frozenset(),
    StageStatus.FAILED: frozenset(),
    StageStatus.CANCELLED: frozenset(),
}
ENDED = frozenset({StageStatus.DONE, StageStatus.FAILED, StageStatus.CANCELLED})


@dataclass(frozen=True)
class Failure:
    """Why something failed, for a person to read."""

    code: str  # of the error tree, e.g. "ROBOT_LOST"
    message: str


@dataclass(frozen=True)
class Verdict:
    """The simulator's judgement. Recorded, never used for control."""

    success: bool  # at the end of the stage
    success_once: bool  # at some tick of it


@dataclass(frozen=True)
class Video:
    """The human video a stage imitates, and where it came from."""

    id: str  # content id in the video store
    prompt: str
    backend: str
    model: str
    seed: int
    frames: int
    fps: float
    size: int  # [px] side
    seconds: float  # [s] wall time of the generation
    cached: bool


@dataclass(frozen=True)
class Stage:
    """A stage as of now. Methods return the stage after a transition."""

    id: str
    index: int
    task: str  # imperative, e.g. "open the drawer"
    seed: int  # of the video; a retry adds to it
    source_video_id: str = ""  # uploaded video for the `file` backend
    status: StageStatus = StageStatus.PENDING
    attempts: int = 0  # times begun; above 1 after restarts
    video: Video | None = None
    goal_id: str = ""
    ticks: int = 0
    ended_by: EndReason | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None  # also the cause of the last restart
    entered: dict[str, float] = field(default_factory=dict)  # status -> [s, Unix], this attempt

    @property
    def attempt_id(self) -> str:
        """Names this attempt on the wire: late messages of an earlier one are told apart."""
        return f"{self.id}.{self.attempts}"

    @property
    def was_begun(self) -> bool:
        """A robot has been asked to do something for it, at least once."""
        return self.attempts > 0

    def enter(self, status: StageStatus, now: float) -> Stage:
        """The stage in its next state.

        Raises:
            InvalidTransition: `status` does not follow the present one.
        """
        if status not in _NEXT[self.status]:
            raise InvalidTransition(
                f"stage {self.index} is {self.status.value} and cannot become {status.value}"
            )
        if status is StageStatus.RESETTING:  # a new attempt begins at the stage's boundary
            return replace(
                self,
                status=status,
                attempts=self.attempts + 1,
                video=None,
                goal_id="",
                ticks=0,
                ended_by=None,
                verdict=None,
                entered={status.value: now},
            )
        return replace(self, status=status, entered={**self.entered, status.value: now})

    def back_to_boundary(self, cause: Failure) -> Stage:
        """The stage ready to begin again, with the reason remembered.

        Raises:
            InvalidTransition: the stage has ended.
        """
        if self.status in ENDED:
            raise InvalidTransition(f"stage {self.index} has ended ({self.status.value})")
        return replace(self, status=StageStatus.PENDING, failure=cause)

    def end(
        self,
        status: StageStatus,
        now: float,
        *,
        ended_by: EndReason | None = None,
        failure: Failure | None = None,
    ) -> Stage:
        """The stage failed or cancelled, from any state that is not an end.

        Raises:
            InvalidTransition: the stage has ended, or `status` is no such end.
        """
        if self.status in ENDED or status not in (StageStatus.FAILED, StageStatus.CANCELLED):
            raise InvalidTransition(
                f"stage {self.index} is {self.status.value} and cannot become {status.value}"
            )
        return replace(
            self,
            status=status,
            ended_by=ended_by or self.ended_by,
            failure=failure or self.failure,
            entered={**self.entered, status.value: now},
        )
