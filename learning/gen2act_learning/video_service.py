"""Human videos from a running videogen service: gRPC for the request, Redis for the MP4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import grpc
import numpy as np
from numpy.typing import NDArray
from redis import Redis

from gen2act_contracts import frames, pb
from gen2act_contracts.errors import PeerUnavailable, UnknownBackend, VideoExpired
from gen2act_contracts.frames import Frame
from gen2act_contracts.keys import video_key
from gen2act_contracts.rpc import from_rpc_error
from gen2act_contracts.video import decode_mp4
from gen2act_servicekit.redis import guard

DEADLINE_S = 300.0  # of one video, queueing included; the service has its own bound
_ANSWER_S = 10.0  # of everything that is answered at once
_STORE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ImaginedVideo:
    """A video of the service and what made it."""

    frames: NDArray[np.uint8]  # [N, S, S, 3] RGB
    fps: float
    backend: str
    model: str


class VideoService:
    """A blocking client, for one thread; to be closed.

    Args:
        address: host:port of the service.
        redis_url: the store that the service writes its videos to.
    """

    def __init__(self, address: str, redis_url: str) -> None:
        self.address = address
        self._channel = grpc.insecure_channel(address)
        # The generated types know asyncio channels only; the stub takes either.
        self._stub: Any = pb.videogen_grpc.VideoGenerationStub(cast(Any, self._channel))
        self._redis = Redis.from_url(
            redis_url, socket_timeout=_STORE_TIMEOUT_S, socket_connect_timeout=_STORE_TIMEOUT_S
        )

    def close(self) -> None:
        """Ends both connections."""
        self._channel.close()
        self._redis.close()

    def check(self, backend: str) -> None:
        """Whether the backend can be asked; to be called before hours are spent.

        Raises:
            PeerUnavailable: no service at the address, or the backend is not enabled or ready.
            UnknownBackend: the service has no such backend; names those it has.
            StoreUnavailable: Redis cannot be reached.
        """
        try:
            reply = self._stub.ListBackends(pb.videogen.ListBackendsRequest(), timeout=_ANSWER_S)
        except grpc.RpcError as error:
            failure = from_rpc_error(error)
            if isinstance(failure, PeerUnavailable):
                raise PeerUnavailable(
                    f"no videogen service at {self.address}, which --video {backend} needs; start "
                    f"one (make up, with GEN2ACT_VIDEO_BACKENDS={backend}) or name its address"
                ) from error
            raise failure from error
        known = {each.name: each for each in reply.backends}
        if backend not in known:
            raise UnknownBackend(
                f"unknown backend {backend!r}; the service at {self.address} has: "
                f"{', '.join(known)}"
            )
        if not known[backend].available:
            raise PeerUnavailable(
                f"backend {backend!r} at {self.address} is not enabled "
                f"(GEN2ACT_VIDEO_BACKENDS) or not ready; it needs {known[backend].requires}"
            )
        with guard():
            self._redis.ping()

    def generate(
        self,
        backend: str,
        task: str,
        scene: NDArray[np.uint8],
        seed: int,
        *,
        state: bytes = b"",
    ) -> ImaginedVideo:
        """The video of a person doing `task` in a scene.

        Args:
            backend: name of a backend of the service.
            task: imperative, e.g. "open the drawer".
            scene: uint8[S, S, 3] RGB.
            seed: another seed, another video.
            state: simulator state; the service shows it to the `demonstrator` backend only.

        Raises:
            Gen2ActError: what the service refused or failed with, typed.
            StoreUnavailable: Redis cannot be reached.
            VideoExpired: the video is not in this Redis.
        """
        request = pb.videogen.GenerateRequest(
            task=task,
            scene=pb.common.SceneFrame(
                image=frames.encode_raw(Frame(scene)), simulator_state=state
            ),
            seed=seed,
            backend=backend,
        )
        result: pb.videogen.GeneratedVideo | None = None
        try:
            for event in self._stub.Generate(request, timeout=DEADLINE_S):
                if event.WhichOneof("event") == "result":
                    result = event.result
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if result is None:
            raise PeerUnavailable(f"the videogen service at {self.address} ended without a video")
        with guard():
            data = self._redis.get(video_key(result.video_id))
        if not isinstance(data, bytes):
            raise VideoExpired(
                f"video {result.video_id} is not in this Redis; is it the one that the service at "
                f"{self.address} uses?"
            )
        pictures, fps = decode_mp4(data)
        made = result.provenance
        return ImaginedVideo(pictures, fps, made.backend, made.model)
