"""`demonstrator`: the simulator draws a person's hand doing the task from the scene's own state.

An upper bound, not an answer: it needs the opaque state that only simulated robots attach to a
scene frame. Rendering is not safe across threads and cannot be stopped in one, so it happens in
warm worker processes (`demonstrator_worker`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from gen2act_contracts.errors import BackendRequires, GenerationFailed
from gen2act_videogen.backend import (
    Availability,
    BackendVideo,
    ProgressCallback,
    VideoRequest,
)
from gen2act_videogen.worker import WorkerPool, python_module

WORKER_MODULE = "gen2act_videogen.backends.demonstrator_worker"
MODEL = "gen2act-sim-hand/1"
MAX_STATE_BYTES = 1 << 20


class DemonstratorBackend:
    """`VideoBackend` over the simulator's `human_video`.

    Args:
        workers: worker processes, each about 200 MB.
        image_size: side of the frames [px].
        frames: frames of a video.
        command: of the worker process; tests give another.
    """

    name = "demonstrator"
    model = MODEL
    requires = "the simulator state that simulated robots attach to a scene frame"
    uses_simulator_state = True
    starts_at_scene = True

    def __init__(
        self,
        *,
        workers: int = 1,
        image_size: int = 224,
        frames: int = 16,
        command: Sequence[str] | None = None,
    ) -> None:
        self._pool = WorkerPool(command or python_module(WORKER_MODULE), size=workers)
        self._image_size = image_size
        self._frames = frames

    async def start(self) -> None:
        self._pool.start()

    async def close(self) -> None:
        await self._pool.close()

    def availability(self) -> Availability:
        problem = self._pool.problem
        return Availability(not problem, problem)

    def fingerprint(self, request: VideoRequest) -> str:
        state = request.simulator_state
        if not state:
            raise BackendRequires(
                "backend 'demonstrator' requires "
                f"{self.requires}; this scene has none (a real robot's or an uploaded picture)",
                backend=self.name,
            )
        if len(state) > MAX_STATE_BYTES:
            raise BackendRequires(
                f"the simulator state has {len(state)} bytes; at most {MAX_STATE_BYTES} are read",
                backend=self.name,
            )
        return f"{hashlib.sha256(state).hexdigest()}/{self._frames}x{self._image_size}"

    async def generate(self, request: VideoRequest, progress: ProgressCallback) -> BackendVideo:
        self.fingerprint(request)  # a caller of its own gets the same refusals
        header, payload = await self._pool.run(
            {
                "type": "generate",
                "task": request.task,
                "seed": request.seed,
                "frames": self._frames,
                "image_size": self._image_size,
            },
            request.simulator_state,
            progress,
        )
        shape = tuple(int(side) for side in header["shape"])
        if len(payload) != int(np.prod(shape)):
            raise GenerationFailed(f"the worker sent {len(payload)} bytes for frames {shape}")
        frames = np.frombuffer(payload, dtype=np.uint8).reshape(shape)
        return BackendVideo(frames=frames, fps=float(header["fps"]), model=self.model)
