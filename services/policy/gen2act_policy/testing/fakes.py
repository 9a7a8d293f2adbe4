"""A scripted runtime, a recording one, and a store in memory."""

import threading

import numpy as np

from gen2act_contracts.errors import StoreUnavailable
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.cost import CostTable
from gen2act_policy.history import Floats, Pixels
from gen2act_policy.runtime import Runtime, StepOutput

WAIT_S = 20.0
"""[s] How long a held fake waits before it gives up: a failed test must not hang."""


def free_costs() -> CostTable:
    """Costs that never limit a batch of up to 64: a larger one is always cheaper per rollout."""
    return CostTable({2**i: 1e-9 for i in range(7)})


class Gate:
    """Lets a test hold the inference thread inside a step."""

    def __init__(self) -> None:
        self._free = threading.Event()
        self._free.set()
        self._held = threading.Event()

    def hold(self) -> None:
        """The next step blocks until `release`."""
        self._held.clear()
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def wait_until_held(self) -> None:
        """Returns when a step has come to the closed gate. Blocking."""
        assert self._held.wait(WAIT_S), "no step began"

    def pass_through(self) -> None:
        if not self._free.is_set():
            self._held.set()
            assert self._free.wait(WAIT_S), "a held step was never released"


class FakeRuntime:
    """A runtime whose calls are recorded and can be held.

    Features are an image's mean colour; the chosen bin of every action is the red of the newest
    frame, so a test sees which frame an action came from.
    """

    provider = "FakeExecutionProvider"

    def __init__(self, spec: ActionSpec) -> None:
        self._spec = spec
        self.encoded: list[int] = []
        """Frames per encoder call."""
        self.steps: list[Floats] = []
        """The history of each step call, float32[B, H, 1, 3]."""
        self.goals: list[Floats] = []
        self.fail: Exception | None = None
        self.broken_output = False
        self.gate = Gate()

    def encode(self, images: Pixels) -> Floats:
        self.encoded.append(len(images))
        return np.asarray(images.mean(axis=(1, 2))[:, None, :], np.float32)

    def resample(self, features: Floats) -> Floats:
        return np.repeat(features.mean(axis=(0, 1)), 64, axis=0)

    def step(self, history: Floats, goal: Floats, proprioception: Floats | None) -> StepOutput:
        self.steps.append(history)
        self.goals.append(goal)
        self.gate.pass_through()
        if self.fail is not None:
            raise self.fail
        batch, spec = len(history), self._spec
        red = history[:, -1, 0, 0].astype(int)
        shape = (batch, spec.chunk_length, len(spec.dimensions), spec.bins)
        logits = np.zeros(shape, np.float32)
        logits[np.arange(batch), :, :, red] = np.nan if self.broken_output else 1.0
        zeros = np.zeros((batch, spec.chunk_length), np.float32)
        return StepOutput(logits, zeros, zeros[:, 0])


class RecordingRuntime:
    """Passes everything on to a real runtime and remembers what its steps gave."""

    def __init__(self, inner: Runtime) -> None:
        self._inner = inner
        self.provider = inner.provider
        self.encoded = 0
        """Frames the encoder has seen, padding included."""
        self.outputs: list[StepOutput] = []
        self.gate = Gate()

    def encode(self, images: Pixels) -> Floats:
        self.encoded += len(images)
        return self._inner.encode(images)

    def resample(self, features: Floats) -> Floats:
        return self._inner.resample(features)

    def step(self, history: Floats, goal: Floats, proprioception: Floats | None) -> StepOutput:
        self.gate.pass_through()
        output = self._inner.step(history, goal, proprioception)
        self.outputs.append(output)
        return output


class MemoryStore:
    """A store that can be taken down."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.down = False
        self.read_only = False

    async def get(self, key: str) -> bytes | None:
        self._check()
        return self.values.get(key)

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        self._check()
        if self.read_only:
            raise StoreUnavailable("the store takes no writes")
        self.values[key] = value

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("the store is down")
