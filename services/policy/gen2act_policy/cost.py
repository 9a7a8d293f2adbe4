"""What a batch costs, as measured, and how many rollouts to serve together because of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Python around one batch: collecting, stacking, delivering [s]. Without it a model whose cost is
# linear in the batch would always be served one rollout at a time.
CYCLE_OVERHEAD_S = 0.0003
# A larger batch delays the earliest robot, so it has to be this much cheaper per rollout.
WORTH_WAITING = 0.97
# Weight of the newest measurement; other load on the machine changes the costs slowly.
SMOOTHING = 0.1
# One preempted batch says little about the next.
LARGEST_LOAD = 10.0


class CostTable:
    """Seconds per call of one graph at power-of-two batch sizes.

    Batches of other sizes are run as a sequence of these (`plan`), the last one padded when that
    was measured to be cheaper than splitting. A fixed set of shapes lets ONNX Runtime reuse its
    memory plans.
    """

    def __init__(self, seconds: dict[int, float]) -> None:
        if not seconds or any(size < 1 or size & (size - 1) for size in seconds):
            raise ValueError(f"batch sizes must be powers of two, got {sorted(seconds)}")
        # A smaller batch never costs more than a larger one; a measurement that says so is noise.
        lowest = float("inf")
        cleaned: dict[int, float] = {}
        for size in sorted(seconds, reverse=True):
            lowest = min(lowest, seconds[size])
            cleaned[size] = lowest
        self._seconds = dict(sorted(cleaned.items()))
        self._load = 1.0

    @property
    def sizes(self) -> list[int]:
        return list(self._seconds)

    def update(self, size: int, seconds: float) -> None:
        """Takes a new measurement of a batch of `size` into account.

        Several inference threads may call it; that one's measurement is lost then does no harm.
        Other load on the machine slows all sizes alike, so one factor is followed: estimates per
        size would go stale for the sizes that are not chosen any more.
        """
        ratio = min(seconds / self._seconds[size], LARGEST_LOAD)
        self._load += SMOOTHING * (ratio - self._load)

    def plan(self, count: int) -> list[int]:
        """Batch sizes that together hold `count` items (the last may be padded)."""
        sizes: list[int] = []
        while count > 0:
            size = min(self._seconds, key=lambda s: self._seconds[s] / min(s, count))
            sizes.append(size)
            count -= size
        return sizes

    def estimate(self, count: int) -> float:
        """[s] for `count` items as `plan` would run them."""
        return self._load * sum(self._seconds[size] for size in self.plan(count))


# Batches always measured, however slow: a machine that is busy while the service starts would
# otherwise leave it without any batching for as long as it lives.
ALWAYS_MEASURED = 4


def measure(run: Callable[[int], float], max_batch: int, longest_s: float = 0.25) -> CostTable:
    """Costs of `run(batch) -> seconds`, growing the batch until a call takes `longest_s`.

    Larger batches than that would keep an urgent robot waiting too long behind one call. Batches
    up to `ALWAYS_MEASURED` are measured in any case.
    """
    seconds: dict[int, float] = {}
    size = 1
    while size <= max_batch:
        run(size)  # the first call at a shape plans memory
        seconds[size] = min(run(size) for _ in range(3))
        if size >= ALWAYS_MEASURED and seconds[size] > longest_s:
            break
        size *= 2
    return CostTable(seconds)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One rollout that waits for an action."""

    deadline: float  # [s] on the scheduler's clock
    frames: int  # frames the encoder has to see for it


def choose_batch(
    waiting: Sequence[Candidate], now: float, encode: CostTable, step: CostTable, max_batch: int
) -> int:
    """How many of `waiting` (earliest deadline first) to serve now: at least 1.

    The cheapest batch per rollout among those that let the most urgent rollout keep its
    deadline. If none does, the cheapest per rollout, so that the queue recovers soonest.
    """
    count = min(len(waiting), max_batch)
    if count == 1:
        return 1
    sizes = [size for size in step.sizes if size < count] + [count]
    options: list[tuple[int, float]] = []
    for size in sizes:
        frames = sum(candidate.frames for candidate in waiting[:size])
        options.append((size, CYCLE_OVERHEAD_S + encode.estimate(frames) + step.estimate(size)))
    in_time = [(n, cost) for n, cost in options if now + cost <= waiting[0].deadline]
    best, best_each = 0, float("inf")
    for size, cost in in_time or options:
        if cost / size < best_each * WORTH_WAITING:
            best, best_each = size, cost / size
    return best
