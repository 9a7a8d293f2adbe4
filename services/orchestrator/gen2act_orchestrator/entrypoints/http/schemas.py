"""What goes in and out over HTTP."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gen2act_orchestrator.domain.gate import EndReason
from gen2act_orchestrator.domain.instruction import MAX_STAGES
from gen2act_orchestrator.domain.stage import StageStatus
from gen2act_orchestrator.domain.task import TaskStatus
from gen2act_orchestrator.service.tasks import NewTask
from gen2act_orchestrator.service.values import RobotRecord

VideoId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="from POST /videos")]


class TaskRequest(BaseModel):
    """A task in words."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"instruction": "make coffee", "robot_id": "sim-1"},
                {
                    "instruction": "tidy up",
                    "stages": ["open the drawer", "place the apple in the drawer"],
                    "max_ticks": 40,
                    "seed": 7,
                },
            ]
        },
    )
    # Its length is checked in the domain, which says so in words.
    instruction: str = Field(description="what is to be done, 1 to 1000 characters")
    robot_id: str | None = Field(default=None, description="may be left out with one robot")
    stages: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_STAGES,
        description="imperatives, one per stage; the planner decides if left out",
    )
    max_ticks: int | None = Field(default=None, ge=1, le=600, description="per stage")
    video: VideoId | list[VideoId] | None = Field(
        default=None,
        description="uploaded video that shows the motion: one for all stages, or one per stage",
    )
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    backend: str = Field(default="", max_length=64, description="of the video service")

    def to_new_task(self) -> NewTask:
        videos = [self.video] if isinstance(self.video, str) else self.video or []
        return NewTask(
            instruction=self.instruction,
            robot_id=self.robot_id,
            stages=tuple(self.stages or ()),
            max_ticks=self.max_ticks,
            videos=tuple(videos),
            seed=self.seed,
            backend=self.backend,
        )


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class FailureView(_View):
    code: str
    message: str


class VerdictView(_View):
    success: bool = Field(description="the simulator's judgement at the end of the stage")
    success_once: bool


class VideoView(_View):
    id: str
    prompt: str
    backend: str
    model: str
    seed: int
    frames: int
    fps: float
    size: int
    seconds: float = Field(description="wall time of the generation [s]")
    cached: bool


class StageView(_View):
    index: int
    task: str
    status: StageStatus
    attempts: int
    seed: int
    video: VideoView | None
    ticks: int
    ended_by: EndReason | None
    verdict: VerdictView | None
    failure: FailureView | None
    entered: dict[str, float] = Field(description="status of this attempt → Unix time [s]")


class TaskView(_View):
    """A task and its stages as they stand."""

    id: str
    instruction: str
    status: TaskStatus
    robot_id: str | None
    stages: list[StageView]
    failure: FailureView | None
    max_ticks: int
    seed: int
    backend: str
    paused_from: TaskStatus | None
    deadline: float | None = Field(description="the robot must be back by then, Unix time [s]")
    created_at: float
    updated_at: float


class TaskPageView(BaseModel):
    tasks: list[TaskView]
    cursor: str | None = Field(description="give it to get the next page; null at the end")


class UploadView(BaseModel):
    video_id: str
    frames: int
    seconds: float
    width: int
    height: int


class DimensionView(_View):
    name: str
    unit: str
    low: float
    high: float


class RobotView(BaseModel):
    id: str
    attached: bool
    stopped: str | None = Field(description="why a person stopped it; null if it may move")
    driver: str
    frame: str
    dimensions: list[DimensionView]
    min_control_period_s: float
    last_attached_at: float

    @classmethod
    def of(cls, record: RobotRecord) -> RobotView:
        driver = record.driver
        return cls(
            id=driver.robot_id,
            attached=record.attached,
            stopped=record.stopped,
            driver=driver.name,
            frame=driver.frame,
            dimensions=[DimensionView.model_validate(d) for d in driver.dimensions],
            min_control_period_s=driver.min_control_period_s,
            last_attached_at=record.last_attached_at,
        )


class RobotsView(BaseModel):
    robots: list[RobotView]


class StopRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: str = Field(default="stopped by a person", max_length=200)


class StopView(BaseModel):
    id: str
    stopped: bool
    recorded: bool = Field(description="false: written as soon as the store is back")
