"""The next stage's video, begun before its scene is known. Used if the scene turns out the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from gen2act_contracts.errors import Gen2ActError
from gen2act_orchestrator.domain.events import VIDEO_SPECULATED, Detail, Event
from gen2act_orchestrator.domain.stage import Stage, Video
from gen2act_orchestrator.service.deps import Deps
from gen2act_orchestrator.service.ending import end
from gen2act_orchestrator.service.recorder import Recorder
from gen2act_orchestrator.service.values import Scene

_log = structlog.get_logger(__name__)

Make = Callable[[Stage, Scene], Awaitable[Video]]


@dataclass(frozen=True)
class _Guess:
    stage_id: str
    scene: Scene
    work: asyncio.Task[Video]


class Speculation:
    """At most one guess per stage, so that a flickering policy costs one video and not many.

    Lives as long as the task's run: one stage begins the guess, the next one takes it. Nothing of
    it is written down; after a crash the video is made as if there had been no guess.
    """

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._guess: _Guess | None = None

    def begin(self, stage: Stage, scene: Scene, make: Make) -> None:
        """Start `make` for the stage that comes next, unless that was done already."""
        if not self._deps.settings.foresight.enabled:
            return
        if self._guess is not None:
            return
        work = asyncio.create_task(self._make(stage, scene, make))
        self._guess = _Guess(stage.id, scene, work)

    async def take(self, stage: Stage, scene: Scene, recorder: Recorder) -> Video | None:
        """The guessed video if it fits the scene as it is, else None; waits until it is made."""
        guess = self._guess
        if guess is None:
            return None
        try:
            if guess.stage_id != stage.id:
                return None
            video, changed, why = await self._judged(guess, scene)
        finally:
            await self.drop()
        data: dict[str, Detail] = {
            "used": video is not None,
            "changed": round(changed, 4),
            "reason": why,
        }
        recorder.add(Event(VIDEO_SPECULATED, self._deps.clock(), stage.index, data))
        _log.info("speculation", used=video is not None, changed=changed, reason=why)
        return video

    async def drop(self) -> None:
        """Forget the guess and stop what makes it."""
        guess, self._guess = self._guess, None
        if guess is not None:
            await end(guess.work)

    async def _judged(self, guess: _Guess, scene: Scene) -> tuple[Video | None, float, str]:
        try:
            changed = await self._deps.likeness.changed(guess.scene, scene)
            if not self._deps.settings.foresight.still_holds(changed):
                return None, changed, "the scene is different"
            return await guess.work, changed, ""
        except Gen2ActError as error:
            return None, 1.0, error.code

    async def _make(self, stage: Stage, scene: Scene, make: Make) -> Video:
        video = await make(stage, scene)
        # The policy keeps the goal tokens: the stage's own call, which may fail, finds them ready.
        with contextlib.suppress(Gen2ActError):
            await self._deps.policy.prepare_goal(video.id, deadline_s=self._deps.settings.prepare_s)
        return video
