"""What goes into the scheduler for one tick of a robot, and what may come out."""

from dataclasses import dataclass

from gen2act_contracts.errors import Gen2ActError
from gen2act_contracts.spec import ActionChunk
from gen2act_policy.history import Floats, LazyFrame

EXPIRED = "EXPIRED"
SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True, slots=True)
class Observation:
    """What a robot saw at one tick, checked."""

    sequence: int
    capture_ns: int  # robot's monotonic clock [ns]
    received: float  # [s] on the scheduler's clock
    deadline: float  # [s] on the scheduler's clock; a later answer is of no use
    frame: LazyFrame
    proprioception: Floats | None  # float32[4]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Where an observation's time went [s]; the parts sum to `total`."""

    queue: float = 0.0
    decode: float = 0.0
    encode: float = 0.0
    step: float = 0.0
    total: float = 0.0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Acted:
    observation: Observation
    chunk: ActionChunk
    terminate_probability: float
    timing: Timing


@dataclass(frozen=True, slots=True)
class Dropped:
    observation: Observation
    reason: str
    timing: Timing


@dataclass(frozen=True, slots=True)
class Failed:
    """The rollout cannot go on."""

    error: Gen2ActError


Outcome = Acted | Dropped | Failed
