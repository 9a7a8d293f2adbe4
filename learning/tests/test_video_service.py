"""Videos from a video service: a small one over real gRPC and a real store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest
from grpc_status import rpc_status
from redis import Redis

from gen2act_contracts import pb
from gen2act_contracts.errors import (
    BackendRequires,
    Gen2ActError,
    PeerUnavailable,
    StoreUnavailable,
    UnknownBackend,
    VideoExpired,
    VideoRejected,
)
from gen2act_contracts.keys import video_key
from gen2act_contracts.rpc import to_status
from gen2act_contracts.video import encode_mp4
from gen2act_learning.evaluation.errors import NoVideo
from gen2act_learning.evaluation.videos import FromService
from gen2act_learning.video_service import VideoService
from gen2act_servicekit.testing import LocalRedis, free_port
from gen2act_sim import World


@dataclass
class Imagines:
    """Makes 16 frames as bright as the seed; fails with `failure` if there is one."""

    redis_url: str
    failure: Gen2ActError | None = None
    stores: bool = True
    requests: list[pb.videogen.GenerateRequest] = field(default_factory=list)

    def ListBackends(
        self, request: pb.videogen.ListBackendsRequest, context: grpc.ServicerContext
    ) -> pb.videogen.ListBackendsResponse:
        kinds = [
            pb.videogen.BackendInfo(name="learned", available=True),
            pb.videogen.BackendInfo(name="engine", available=False, requires="a GPU"),
        ]
        return pb.videogen.ListBackendsResponse(backends=kinds)

    def Generate(
        self, request: pb.videogen.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.videogen.GenerateEvent]:
        self.requests.append(request)
        yield pb.videogen.GenerateEvent(progress=pb.videogen.GenerateProgress(fraction=0.5))
        if self.failure is not None:
            context.abort_with_status(rpc_status.to_status(to_status(self.failure)))
        if self.stores:
            frames = np.full((16, 32, 32, 3), request.seed, np.uint8)
            with Redis.from_url(self.redis_url) as redis:
                redis.set(video_key("v"), encode_mp4(frames, 8.0))
        made = pb.videogen.Provenance(backend=request.backend, model="small/1")
        yield pb.videogen.GenerateEvent(
            result=pb.videogen.GeneratedVideo(video_id="v", provenance=made)
        )


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def imagines(redis_url: str) -> Imagines:
    return Imagines(redis_url)


@pytest.fixture
def service(imagines: Imagines) -> Iterator[VideoService]:
    server = grpc.server(ThreadPoolExecutor(2))
    pb.videogen_grpc.add_VideoGenerationServicer_to_server(imagines, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with closing(VideoService(f"127.0.0.1:{port}", imagines.redis_url)) as client:
        yield client
    server.stop(None).wait()


SCENE = np.zeros((32, 32, 3), np.uint8)


def test_a_video_comes_back_with_who_made_it(service: VideoService, imagines: Imagines):
    video = service.generate("learned", "open the drawer", SCENE, 90)
    assert video.frames.shape == (16, 32, 32, 3)
    assert abs(float(video.frames.mean()) - 90) < 4
    assert (video.backend, video.model, video.fps) == ("learned", "small/1", 8.0)
    (request,) = imagines.requests
    assert (request.task, request.backend, request.seed) == ("open the drawer", "learned", 90)


def test_the_policy_is_shown_the_service_s_video_of_what_the_robot_sees(
    service: VideoService, imagines: Imagines
):
    world = World("drawer", 100)
    shown = FromService(service, "learned").video(world, "drawer-open", 100)
    assert (shown.task, shown.made_by) == ("drawer-open", "learned small/1")
    (request,) = imagines.requests
    assert request.task == "open the drawer"
    assert request.scene.image.data == world.observe().image.tobytes()


def test_a_refused_video_is_a_miss_and_a_lacking_backend_is_not(
    service: VideoService, imagines: Imagines
):
    world = World("drawer", 100)
    imagines.failure = VideoRejected("static")
    with pytest.raises(NoVideo, match="static"):
        FromService(service, "learned").video(world, "drawer-open", 100)
    imagines.failure = BackendRequires("no key")
    with pytest.raises(BackendRequires, match="no key"):
        FromService(service, "learned").video(world, "drawer-open", 100)


def test_a_video_in_another_store_says_so(service: VideoService, imagines: Imagines):
    with Redis.from_url(imagines.redis_url) as redis:
        redis.delete(video_key("v"))
    imagines.stores = False
    with pytest.raises(VideoExpired, match="is it the one that the service"):
        service.generate("learned", "open the drawer", SCENE, 1)


def test_backends_are_checked_beforehand(service: VideoService):
    service.check("learned")
    with pytest.raises(UnknownBackend, match=r"'lerned'.* has: learned, engine"):
        service.check("lerned")
    with pytest.raises(PeerUnavailable, match="a GPU"):
        service.check("engine")


def test_a_store_that_is_down_is_named_beforehand(service: VideoService, imagines: Imagines):
    with (
        closing(VideoService(service.address, f"redis://127.0.0.1:{free_port()}/0")) as lost,
        pytest.raises(StoreUnavailable),
    ):
        lost.check("learned")
