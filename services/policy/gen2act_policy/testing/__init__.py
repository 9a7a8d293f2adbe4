"""For tests of this service and of what talks to it: fakes, small bundles, a served policy."""

from gen2act_policy.testing.bundles import small_spec, write_random_bundle
from gen2act_policy.testing.fakes import (
    WAIT_S,
    FakeRuntime,
    Gate,
    MemoryStore,
    RecordingRuntime,
    free_costs,
)

__all__ = [
    "WAIT_S",
    "FakeRuntime",
    "Gate",
    "MemoryStore",
    "RecordingRuntime",
    "free_costs",
    "small_spec",
    "write_random_bundle",
]
