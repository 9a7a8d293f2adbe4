"""What the policy is shown: a demonstrator's video, another task's, a video service's, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gen2act_contracts.errors import BackendRequires, GenerationFailed
from gen2act_sim import SCENES, TASKS, DemonstrationFailed, World, human_video

from ..data.demos import FIRST_TRAINING_SEED
from ..video_service import VideoService
from .errors import NoVideo
from .rollout import Frames

DEMONSTRATOR = "demonstrator"
SHUFFLED = "shuffled"
OTHER_INSTANCE = "other-instance"
NONE = "none"  # the instruction in words instead


@dataclass(frozen=True)
class ShownVideo:
    """A human video, and what it shows."""

    frames: Frames
    task: str  # the task it shows
    made_by: str
    instruction: str = ""  # said in its place; the frames are then for people's eyes only

    @property
    def goal(self) -> Frames | str:
        """What the policy is to follow."""
        return self.instruction or self.frames


class VideoSource(Protocol):
    """Makes the human video of one stage."""

    def video(self, world: World, task: str, seed: int) -> ShownVideo:
        """The video for `task` in the world as it is now; the world does not change.

        Raises:
            NoVideo: none could be made for this scene.
        """


class Demonstrator:
    """The simulator's rendered hand doing the task from this very state: an upper bound."""

    def video(self, world: World, task: str, seed: int) -> ShownVideo:
        return _demonstrate(world.get_state(), task, seed)


class Shuffled:
    """Control: another task's video. A policy that still succeeds does not read its video."""

    def video(self, world: World, task: str, seed: int) -> ShownVideo:
        other = other_task(task)
        if TASKS[other].scene == world.scene:
            return _demonstrate(world.get_state(), other, seed)
        return _demonstrate_elsewhere(other, seed)


class OtherInstance:
    """The same task done in another world of its scene, fresh even amid a chain.

    What a policy conditioned on `human_video` was trained on.
    """

    def video(self, world: World, task: str, seed: int) -> ShownVideo:
        return _demonstrate_elsewhere(task, other_seed(seed))


class Instruction:
    """No video but the task's instruction, for a policy that is conditioned on language."""

    def video(self, world: World, task: str, seed: int) -> ShownVideo:
        scene = world.observe().image[None]
        return ShownVideo(scene, task, "instruction", TASKS[task].instruction)


class FromService:
    """What a running video service's backend imagines from the scene image and the words."""

    def __init__(self, service: VideoService, backend: str) -> None:
        self._service = service
        self._backend = backend

    def video(self, world: World, task: str, seed: int) -> ShownVideo:
        instruction = TASKS[task].instruction
        try:
            made = self._service.generate(
                self._backend, instruction, world.observe().image, seed, state=world.get_state()
            )
        except BackendRequires:
            raise  # of every scene, not of this one
        except GenerationFailed as error:
            raise NoVideo(str(error)) from error
        return ShownVideo(made.frames, task, f"{made.backend} {made.model}")


LOCAL: Mapping[str, Callable[[], VideoSource]] = {
    DEMONSTRATOR: Demonstrator,
    SHUFFLED: Shuffled,
    OTHER_INSTANCE: OtherInstance,
    NONE: Instruction,
}
"""Sources by name that need no video service."""


def other_seed(seed: int) -> int:
    """Of another world than the evaluated one, never a training seed."""
    return (seed + FIRST_TRAINING_SEED // 2) % FIRST_TRAINING_SEED


def shares_scene(task: str) -> bool:
    """Whether the task's scene has other tasks too."""
    return len(SCENES[TASKS[task].scene]) > 1


def other_task(task: str) -> str:
    """Another task: the next of the same scene; where it is the only one, of the next scene."""
    tasks = list(SCENES[TASKS[task].scene]) if shares_scene(task) else list(TASKS)
    return tasks[(tasks.index(task) + 1) % len(tasks)]


def _demonstrate_elsewhere(task: str, seed: int) -> ShownVideo:
    elsewhere = World(TASKS[task].scene, seed)
    try:
        elsewhere.reset(task)
        return _demonstrate(elsewhere.get_state(), task, seed)
    finally:
        elsewhere.close()


def _demonstrate(state: bytes, task: str, seed: int) -> ShownVideo:
    try:
        return ShownVideo(human_video(state, task, seed).frames, task, DEMONSTRATOR)
    except DemonstrationFailed as error:
        raise NoVideo(str(error)) from error
