"""The policy service without a transport: handshakes, goals, rollouts."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np

from gen2act_contracts import CONTRACT_VERSION
from gen2act_contracts.errors import (
    ContractMismatch,
    Draining,
    InvalidInput,
    NonFiniteInput,
    Overloaded,
    SpecMismatch,
)
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.cost import CostTable
from gen2act_policy.goals import Goals, Store, check_video_id, goal_id, video_of
from gen2act_policy.history import Floats, LazyFrame, Pixels
from gen2act_policy.metrics import PolicyMetrics
from gen2act_policy.outcomes import Acted, Dropped, Observation, Outcome
from gen2act_policy.runtime import Runtime
from gen2act_policy.scheduler import Results, Rollout, Scheduler
from gen2act_policy.session import Session

MAX_BUDGET_S = 60.0
MAX_SESSION_ID = 256


class PolicyCore:
    """Serves one model. Its methods are called on one event loop; inference runs elsewhere."""

    def __init__(
        self,
        runtime: Runtime,
        spec: ActionSpec,
        store: Store,
        metrics: PolicyMetrics,
        *,
        model_name: str,
        goal_samples: int,
        encode_cost: CostTable,
        step_cost: CostTable,
        decoder: Executor,
        videos: Executor,
        max_rollouts: int = 256,
        max_batch: int = 32,
        cached_goals: int = 64,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.spec_hash = spec.hash
        self.model_name = model_name
        self.provider = runtime.provider
        self._clock = clock
        self._metrics = metrics
        self._max_rollouts = max_rollouts
        self._sessions: dict[Rollout, Session] = {}
        self._opening = 0
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduler = Scheduler(
            runtime,
            spec,
            encode_cost=encode_cost,
            step_cost=step_cost,
            post=self._post,
            decoder=decoder,
            clock=clock,
            max_batch=max_batch,
            workers=workers,
        )
        metrics.waiting.set_function(self._scheduler.waiting)
        self._goals = Goals(
            store,
            self._scheduler,
            model_hash=spec.model_hash,
            samples=goal_samples,
            image_size=spec.image_size,
            executor=videos,
            capacity=cached_goals,
        )

    def start(self) -> None:
        """Starts the inference threads; called on the event loop that will serve."""
        self._loop = asyncio.get_running_loop()
        self._scheduler.start()

    def drain(self) -> None:
        """Refuses new rollouts and sends the open ones to another replica."""
        self._draining = True
        for session in list(self._sessions.values()):
            session.fail(Draining("the policy service is shutting down; reconnect"))

    def stop(self) -> None:
        """Ends the inference threads. Blocks for at most one batch."""
        self.drain()
        self._scheduler.stop()

    def waiting(self) -> int:
        """Rollouts whose newest observation waits for an inference thread."""
        return self._scheduler.waiting()

    def check_contract(self, version: int) -> None:
        """Raises `ContractMismatch` for a peer of another contract version."""
        if version != CONTRACT_VERSION:
            raise ContractMismatch(
                f"the peer speaks contract version {version}, this policy {CONTRACT_VERSION}",
                expected=str(CONTRACT_VERSION),
                got=str(version),
            )

    async def prepare_goal(self, video_id: str) -> tuple[str, bool]:
        """Goal id of a stored video and whether its tokens were there already."""
        check_video_id(video_id)
        _, cached = await self._goals.tokens(video_id)
        self._metrics.goal(cached)
        return goal_id(video_id, self.spec.model_hash), cached

    async def open_rollout(
        self, session_id: str, goal: str, contract_version: int, spec_hash: str
    ) -> Session:
        """Starts a rollout with an empty history.

        Raises `ContractMismatch`, `SpecMismatch`, `InvalidInput`, `GoalExpired`, `VideoExpired`,
        `StoreUnavailable`, `Overloaded`, `Draining`.
        """
        self.check_contract(contract_version)
        if spec_hash != self.spec_hash:
            raise SpecMismatch(
                f"the robot was checked against action spec {spec_hash[:12] or '(none)'}, this "
                f"policy serves {self.spec_hash[:12]}; call GetSpec and check again",
                expected=self.spec_hash,
                got=spec_hash[:80],
            )
        if not 0 < len(session_id) <= MAX_SESSION_ID or not session_id.isprintable():
            raise InvalidInput(
                f"session_id must be 1 to {MAX_SESSION_ID} printable characters, "
                f"got {session_id[:80]!r}"
            )
        video_id = video_of(goal, self.spec.model_hash)
        if self._draining:
            raise Draining("the policy service is shutting down; reconnect")
        if len(self._sessions) + self._opening >= self._max_rollouts:
            raise Overloaded(
                f"{self._max_rollouts} rollouts are open, this replica takes no more",
                limit=str(self._max_rollouts),
            )
        self._opening += 1
        try:
            tokens, _ = await self._goals.tokens(video_id)
        finally:
            self._opening -= 1
        rollout = self._scheduler.open(tokens)
        session = Session(
            session_id,
            rollout,
            self._scheduler,
            on_close=lambda: self._closed(rollout),
        )
        self._sessions[rollout] = session
        self._metrics.rollouts.set(len(self._sessions))
        if self._draining:
            session.fail(Draining("the policy service is shutting down; reconnect"))
        return session

    def observation(
        self,
        *,
        sequence: int,
        capture_ns: int,
        budget_ms: float,
        decode: Callable[[], Pixels],
        ee_position_m: Sequence[float] | None,
        gripper_opening: float,
        replayed: bool,
    ) -> Observation:
        """A checked observation that arrived now; its image is decoded later, off the loop.

        A budget of zero or less has expired already. Raises `NonFiniteInput`, `InvalidInput`.
        """
        if not math.isfinite(budget_ms):
            raise NonFiniteInput(
                f"observation {sequence}: budget_ms is {budget_ms}", sequence=str(sequence)
            )
        now = self._clock()
        return Observation(
            sequence=sequence,
            capture_ns=capture_ns,
            received=now,
            deadline=now + min(budget_ms / 1e3, MAX_BUDGET_S),
            frame=LazyFrame(decode),
            proprioception=self._proprioception(sequence, ee_position_m, gripper_opening),
            replayed=replayed,
        )

    def expires_ns(self, observation: Observation) -> int:
        """[ns] on the robot's clock: the end of the chunk's last action."""
        horizon_s = self.spec.chunk_length * self.spec.control_period_s
        return observation.capture_ns + round(horizon_s * 1e9)

    def _proprioception(
        self, sequence: int, ee_position_m: Sequence[float] | None, gripper_opening: float
    ) -> Floats | None:
        if ee_position_m is None:
            if self.spec.uses_proprioception:
                raise InvalidInput(
                    f"observation {sequence} has no proprioception; this policy needs it",
                    sequence=str(sequence),
                )
            return None
        values = [*ee_position_m, gripper_opening]
        # Also where the model does not use it: a robot that measures NaN must not be driven.
        if not all(map(math.isfinite, values)):
            raise NonFiniteInput(
                f"observation {sequence}: proprioception is {values}; all values must be finite",
                sequence=str(sequence),
            )
        if len(ee_position_m) != 3:
            raise InvalidInput(
                f"observation {sequence}: ee_position_m has {len(ee_position_m)} values, "
                "expected 3",
                sequence=str(sequence),
            )
        return np.array(values, dtype=np.float32)

    def _closed(self, rollout: Rollout) -> None:
        self._sessions.pop(rollout, None)
        self._metrics.rollouts.set(len(self._sessions))

    def _post(self, results: Results) -> None:
        """Called by the inference thread: one hop to the event loop for the whole batch."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, results)

    def _deliver(self, results: Results) -> None:
        for rollout, outcome in results:
            session = self._sessions.get(rollout)
            if session is not None:  # else the robot went away while its step ran
                session.deliver(outcome)

    def record(self, outcome: Outcome) -> None:
        """Counts an outcome that was sent."""
        if isinstance(outcome, Acted):
            self._metrics.acted(outcome.timing)
        elif isinstance(outcome, Dropped):
            self._metrics.dropped(outcome.reason)
