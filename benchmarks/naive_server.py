"""The naive policy as a server: the same graphs, every image encoded again at every tick.

24 images per tick (16 of the human video, 8 of the robot), one rollout after the other in the
order of arrival, no batching. Inference runs in one thread beside the event loop, as in the real
service, so that the difference is the caching and the scheduling and nothing else.
Settings as the policy's.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from gen2act_contracts import CONTRACT_VERSION, keys, pb
from gen2act_contracts.errors import VideoExpired
from gen2act_policy.bundle import load_bundle
from gen2act_policy.decoding import decode_actions
from gen2act_policy.edge import decode_image
from gen2act_policy.goals import goal_frames, goal_id, video_of
from gen2act_policy.history import Pixels
from gen2act_policy.runtime import OnnxRuntime
from gen2act_policy.settings import PolicySettings
from gen2act_servicekit import GrpcService, redis, runner


class NaivePolicy(pb.policy_grpc.PolicyServicer):
    def __init__(self, settings: PolicySettings) -> None:
        self._bundle = load_bundle(settings.bundle)
        self._spec = self._bundle.spec
        self._runtime = OnnxRuntime(self._bundle, settings.provider, settings.threads)
        self._client = redis.connect(settings.redis_url)
        self._thread = ThreadPoolExecutor(1)

    async def GetSpec(self, request: Any, context: Any) -> pb.policy.PolicySpec:
        return pb.policy.PolicySpec(
            contract_version=CONTRACT_VERSION,
            action_spec=self._spec.to_proto(),
            spec_hash=self._spec.hash,
            model_name=self._bundle.name,
            provider=self._runtime.provider,
        )

    async def PrepareGoal(self, request: Any, context: Any) -> pb.policy.PrepareGoalResponse:
        return pb.policy.PrepareGoalResponse(goal_id=goal_id(request.video_id, self._hash()))

    async def Rollout(
        self, request_iterator: AsyncIterator[pb.policy.RolloutRequest], context: Any
    ) -> AsyncIterator[pb.policy.RolloutReply]:
        opening = (await anext(request_iterator)).open
        mp4 = await self._client.get(keys.video_key(video_of(opening.goal_id, self._hash())))
        if not isinstance(mp4, bytes):
            raise VideoExpired(f"no video for goal {opening.goal_id!r}")
        video = goal_frames(mp4, self._bundle.goal_frames, self._spec.image_size)
        recent: deque[Pixels] = deque(maxlen=self._spec.history_length)
        yield pb.policy.RolloutReply(
            opened=pb.policy.RolloutOpened(session_id=opening.session_id, model_hash=self._hash())
        )
        loop = asyncio.get_running_loop()
        async for request in request_iterator:
            yield await loop.run_in_executor(
                self._thread, self._act, video, recent, request.observation
            )

    def _act(
        self, video: Pixels, recent: deque[Pixels], observation: pb.policy.Observation
    ) -> pb.policy.RolloutReply:
        recent.append(decode_image(observation.image, self._spec.image_size))
        history = [recent[0]] * (self._spec.history_length - len(recent)) + list(recent)
        started = time.perf_counter()
        features = self._runtime.encode(np.concatenate([video, np.stack(history)]))
        encoded = time.perf_counter()
        goal = self._runtime.resample(features[None, : len(video)])
        measured = None
        if self._spec.uses_proprioception:
            measured = np.zeros((1, self._spec.history_length, 4), np.float32)
        output = self._runtime.step(features[None, len(video) :], goal[None], measured)
        ((chunk, terminate),) = decode_actions(output, self._spec)
        timing = pb.policy.Timing(
            encode_ms=1e3 * (encoded - started),
            step_ms=1e3 * (time.perf_counter() - encoded),
            batch=1,
        )
        return pb.policy.RolloutReply(
            action=pb.policy.ActionReply(
                sequence=observation.sequence,
                chunk=chunk.to_proto(),
                terminate_probability=terminate,
                timing=timing,
            )
        )

    def _hash(self) -> str:
        return self._spec.model_hash


async def serve(kind: type[NaivePolicy] = NaivePolicy) -> None:
    settings = PolicySettings()
    service = GrpcService.from_settings("policy", settings)
    descriptor = pb.policy.DESCRIPTOR.services_by_name["Policy"]
    servicer = kind(settings)
    service.add(pb.policy_grpc.add_PolicyServicer_to_server, servicer, descriptor)
    await service.start()
    await service.set_ready(True)
    await service.run_until_signal()


if __name__ == "__main__":
    runner.main(serve)
