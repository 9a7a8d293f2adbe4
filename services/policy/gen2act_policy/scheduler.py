"""The inference threads: they batch the steps of all robots, earliest deadline first.

Everything that runs the model happens here and nowhere else, so the event loop never waits for it.
Each thread takes the most urgent rollouts that no other one is serving. `submit` and `close` are
called by the event loop; they only take a short lock. What came out is handed back through `post`,
one call per batch.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np

from gen2act_contracts.errors import Gen2ActError, Internal, Overloaded
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.batching import encode_entries, step_rollouts
from gen2act_policy.cost import Candidate, CostTable, choose_batch
from gen2act_policy.decoding import decode_actions
from gen2act_policy.history import Floats, History, HistoryEntry, LazyFrame, Pixels
from gen2act_policy.outcomes import (
    EXPIRED,
    SUPERSEDED,
    Acted,
    Dropped,
    Failed,
    Observation,
    Outcome,
    Timing,
)
from gen2act_policy.runtime import Runtime
from gen2act_servicekit import logs

log = logs.get(__name__)

GOAL_SLICE = 4
"""Goal frames encoded between two steps: bounds how long a new goal holds the robots up."""
MAX_PREFETCH = 64
"""Images queued for decoding ahead. Beyond it the inference thread decodes what it needs."""


@dataclass(eq=False, slots=True)
class Rollout:
    """One robot's stage: its goal and its last frames. Owned by the scheduler."""

    goal: Floats  # float32[*G]
    history: History
    waiting: Observation | None = None
    closed: bool = False


Results = list[tuple[Rollout, Outcome]]
_Job = tuple[Rollout, Observation, tuple[HistoryEntry, ...]]


@dataclass(slots=True)
class _GoalJob:
    frames: Pixels  # uint8[goal_frames, S, S, 3]
    future: "Future[Floats]"
    features: list[Floats] = field(default_factory=list)
    done: int = 0


class Scheduler:
    """Serves observations and goals on `workers` threads.

    `clock` gives seconds and never goes back. `decoder` decodes images ahead while all workers are
    busy; an idle one decodes by itself, which saves a hop.
    """

    def __init__(
        self,
        runtime: Runtime,
        spec: ActionSpec,
        *,
        encode_cost: CostTable,
        step_cost: CostTable,
        post: Callable[[Results], None],
        decoder: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_batch: int = 32,
        max_goals: int = 8,
        workers: int = 1,
    ) -> None:
        self._runtime = runtime
        self._spec = spec
        self._encode_cost = encode_cost
        self._step_cost = step_cost
        self._post = post
        self._decoder = decoder
        self._clock = clock
        self._max_batch = max_batch
        self._max_goals = max_goals
        self._condition = threading.Condition()
        # At most one observation per open rollout waits, so this is bounded by the rollouts.
        self._ready: dict[Rollout, None] = {}
        self._serving: set[Rollout] = set()
        self._goals: deque[_GoalJob] = deque()
        self._advancing = False  # a worker encodes a slice of the oldest goal
        self._prefetches = threading.BoundedSemaphore(MAX_PREFETCH)
        self._idle = 0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"inference-{number}", daemon=True)
            for number in range(workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Finishes the batches at hand and ends the threads; goals not yet made are refused."""
        with self._condition:
            self._stopping = True
            goals = list(self._goals)
            self._goals.clear()
            self._condition.notify_all()
        for job in goals:
            job.future.cancel()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def open(self, goal: Floats) -> Rollout:
        return Rollout(goal=goal, history=History(self._spec.history_length))

    def submit(self, rollout: Rollout, observation: Observation) -> Dropped | None:
        """Adds a frame to the rollout and, unless it is replayed, asks for an action.

        Returns the older observation that this one supersedes, if it was not served yet. Its
        frame stays in the history.
        """
        entry = HistoryEntry(observation.frame, observation.proprioception)
        superseded: Dropped | None = None
        with self._condition:
            rollout.history.append(entry)
            if not observation.replayed and not rollout.closed:
                if rollout.waiting is not None:
                    superseded = self._drop(rollout.waiting, SUPERSEDED, self._clock())
                rollout.waiting = observation
                self._ready[rollout] = None
                self._condition.notify()
            ahead = self._idle == 0 or observation.replayed
        if ahead:
            self._prefetch(observation.frame)
        return superseded

    def close(self, rollout: Rollout) -> None:
        """Forgets the rollout; a step that runs for it now is thrown away."""
        with self._condition:
            rollout.closed = True
            rollout.waiting = None
            self._ready.pop(rollout, None)

    def waiting(self) -> int:
        """Rollouts that wait to be served."""
        return len(self._ready)

    def encode_goal(self, frames: Pixels) -> "Future[Floats]":
        """Goal tokens float32[*G] of uint8[goal_frames, S, S, 3], made between steps.

        Raises `Overloaded` if `max_goals` are already waiting.
        """
        future: Future[Floats] = Future()
        with self._condition:
            if self._stopping or len(self._goals) >= self._max_goals:
                raise Overloaded(
                    f"{len(self._goals)} goals are waiting to be encoded; try again later",
                    waiting=str(len(self._goals)),
                )
            self._goals.append(_GoalJob(frames, future))
            self._condition.notify()
        return future

    def _prefetch(self, frame: LazyFrame) -> None:
        if self._decoder is None or not self._prefetches.acquire(blocking=False):
            return
        done = self._decoder.submit(frame.prefetch)
        done.add_done_callback(lambda _: self._prefetches.release())

    def _loop(self) -> None:
        while True:
            with self._condition:
                while not (self._stopping or self._work_waits()):
                    self._idle += 1
                    self._condition.wait()
                    self._idle -= 1
                if self._stopping:
                    return
                batch, results = self._take_batch()
                goal = self._take_goal()
            if batch:
                results += self._serve(batch)
            if results:
                self._post(results)
            if batch:
                self._release(batch)
            if goal is not None:
                self._advance(goal)
                with self._condition:
                    self._advancing = False

    def _work_waits(self) -> bool:
        """Called with the lock held."""
        goal_waits = bool(self._goals) and not self._advancing
        return goal_waits or any(rollout not in self._serving for rollout in self._ready)

    def _release(self, batch: list[_Job]) -> None:
        """The rollouts may be served again: what came in for them meanwhile is due."""
        with self._condition:
            self._serving.difference_update(rollout for rollout, _, _ in batch)
            # An idle worker that is woken for nothing delays the reply that is on its way.
            if self._work_waits():
                self._condition.notify()

    def _take_goal(self) -> _GoalJob | None:
        """The oldest goal, unless another worker has it. Called with the lock held."""
        if self._advancing or not self._goals:
            return None
        self._advancing = True
        return self._goals[0]

    def _take_batch(self) -> tuple[list[_Job], Results]:
        """Drops what expired, then takes the most urgent rollouts. Called with the lock held."""
        now = self._clock()
        results: Results = []
        waiting: list[tuple[Rollout, Observation]] = []
        for rollout in [each for each in self._ready if each not in self._serving]:
            observation = rollout.waiting
            assert observation is not None
            if observation.deadline <= now:
                # Its frame stays in the history and is encoded with the next live observation.
                del self._ready[rollout]
                rollout.waiting = None
                results.append((rollout, self._drop(observation, EXPIRED, now)))
            else:
                waiting.append((rollout, observation))
        if not waiting:
            return [], results
        waiting.sort(key=lambda item: item[1].deadline)
        candidates = [Candidate(o.deadline, r.history.pending()) for r, o in waiting]
        count = choose_batch(candidates, now, self._encode_cost, self._step_cost, self._max_batch)
        batch = []
        for rollout, observation in waiting[:count]:
            del self._ready[rollout]
            rollout.waiting = None
            batch.append((rollout, observation, rollout.history.window()))
            self._serving.add(rollout)
        return batch, results

    def _serve(self, batch: list[_Job]) -> Results:
        try:
            return self._infer(batch)
        except Exception as error:  # the thread must outlive whatever the model does
            log.exception("inference_failed", batch=len(batch))
            failure = Internal(f"inference failed: {type(error).__name__}")
            return [(rollout, Failed(failure)) for rollout, _, _ in batch]

    def _infer(self, batch: list[_Job]) -> Results:
        results: Results = []
        usable = []
        for rollout, observation, window in batch:
            try:
                for entry in window:
                    if entry.frame is not None:
                        entry.frame.pixels()
            except Gen2ActError as error:
                results.append((rollout, Failed(error)))
            else:
                usable.append((rollout, observation, window))
        if not usable:
            return results
        windows = [window for _, _, window in usable]
        encode_s = encode_entries(self._runtime, self._encode_cost, windows)
        output, step_s = step_rollouts(
            self._runtime,
            self._step_cost,
            windows,
            [rollout.goal for rollout, _, _ in usable],
            self._spec.uses_proprioception,
        )
        actions = decode_actions(output, self._spec)
        now = self._clock()
        for (rollout, observation, _), (chunk, terminate) in zip(usable, actions, strict=True):
            total = now - observation.received
            decode = observation.frame.decode_s
            timing = Timing(
                queue=max(0.0, total - decode - encode_s - step_s),
                decode=decode,
                encode=encode_s,
                step=step_s,
                total=total,
                batch=len(usable),
            )
            results.append((rollout, Acted(observation, chunk, terminate, timing)))
        return results

    def _advance(self, job: _GoalJob) -> None:
        """Encodes a slice of the oldest goal; the last slice also resamples it."""
        try:
            if job.future.cancelled():
                self._finish(job)
                return
            part = job.frames[job.done : job.done + GOAL_SLICE]
            job.features.append(self._runtime.encode(part))
            job.done += len(part)
            if job.done < len(job.frames):
                return
            goal = self._runtime.resample(np.concatenate(job.features)[None])
            if not np.isfinite(goal).all():
                raise FloatingPointError("the goal resampler gave a non-finite output")
        except Exception as error:
            log.exception("goal_failed")
            self._finish(job)
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(
                    Internal(f"encoding the goal failed: {type(error).__name__}")
                )
            return
        self._finish(job)
        if job.future.set_running_or_notify_cancel():
            job.future.set_result(goal)

    def _finish(self, job: _GoalJob) -> None:
        with self._condition:
            if job in self._goals:
                self._goals.remove(job)

    def _drop(self, observation: Observation, reason: str, now: float) -> Dropped:
        total = now - observation.received
        decode = observation.frame.decode_s
        timing = Timing(queue=max(0.0, total - decode), decode=decode, total=total)
        return Dropped(observation, reason, timing)
