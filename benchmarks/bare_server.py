"""The model in a bare gRPC stream: decode, encode, step, answer, all on the event loop.

What a Python stream around this model cannot be faster than: no threads, no history, no deadlines,
no checks, and while it runs nobody else is served. Settings as the policy's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from naive_server import NaivePolicy, serve

from gen2act_contracts import pb
from gen2act_policy.edge import decode_image
from gen2act_policy.runtime import blank_proprioception
from gen2act_servicekit import runner


class BarePolicy(NaivePolicy):
    async def Rollout(
        self, request_iterator: AsyncIterator[pb.policy.RolloutRequest], context: Any
    ) -> AsyncIterator[pb.policy.RolloutReply]:
        spec, runtime = self._spec, self._runtime
        history = np.zeros((1, spec.history_length, *runtime.feature_shape), np.float32)
        goal = np.zeros((1, *runtime.goal_shape), np.float32)
        measured = blank_proprioception(spec, 1)
        opening = (await anext(request_iterator)).open
        yield pb.policy.RolloutReply(
            opened=pb.policy.RolloutOpened(session_id=opening.session_id, model_hash=self._hash())
        )
        async for request in request_iterator:
            pixels = decode_image(request.observation.image, spec.image_size)
            started = time.perf_counter()
            runtime.encode(pixels[None])
            encoded = time.perf_counter()
            runtime.step(history, goal, measured)
            ended = time.perf_counter()
            timing = pb.policy.Timing(
                encode_ms=1e3 * (encoded - started), step_ms=1e3 * (ended - encoded), batch=1
            )
            yield pb.policy.RolloutReply(
                action=pb.policy.ActionReply(
                    sequence=request.observation.sequence,
                    chunk=pb.common.ActionChunk(steps=4, dims=3, values=[0.01] * 12),
                    timing=timing,
                )
            )


if __name__ == "__main__":
    runner.main(lambda: serve(BarePolicy))
