"""What the policy service measures of itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gen2act_policy.outcomes import Timing

# A tick is 333 ms; the model takes milliseconds [s].
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.333, 0.5, 1.0)


class PolicyMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str) -> Histogram:
            return Histogram(
                f"gen2act_policy_{name}_seconds", text, buckets=_BUCKETS, registry=registry
            )

        self._queue = histogram("queue", "Waiting and thread hops of an answered observation")
        self._decode = histogram("decode", "Image decoding of an answered observation")
        self._encode = histogram("encode", "Frame encoder, per batch as each rollout saw it")
        self._step = histogram("step", "Step graph, per batch as each rollout saw it")
        self._total = histogram("observation", "Receipt of an observation to its answer")
        self._batch = Histogram(
            "gen2act_policy_batch_size",
            "Rollouts served together, per answered observation",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self._dropped = Counter(
            "gen2act_policy_observations_dropped",
            "Observations not used for actions",
            ["reason"],
            registry=registry,
        )
        self._goals = Counter(
            "gen2act_policy_goals", "PrepareGoal calls answered", ["cached"], registry=registry
        )
        self.rollouts = Gauge("gen2act_policy_rollouts", "Open rollouts", registry=registry)
        self.waiting = Gauge(
            "gen2act_policy_waiting", "Rollouts that wait for inference", registry=registry
        )

    def acted(self, timing: Timing) -> None:
        self._queue.observe(timing.queue)
        self._decode.observe(timing.decode)
        self._encode.observe(timing.encode)
        self._step.observe(timing.step)
        self._total.observe(timing.total)
        self._batch.observe(timing.batch)

    def dropped(self, reason: str) -> None:
        self._dropped.labels(reason).inc()

    def goal(self, cached: bool) -> None:
        self._goals.labels(str(cached).lower()).inc()
