"""Fakes for tests of drivers, policies and orchestrators: no hardware, no services, no waiting.

- `MockRobot`, `JudgedMockRobot`: a robot that records what it is asked, with faults to inject.
- `FakeClock`, `InlineExecutor`: virtual time for the control loop.
- `ScriptedLink`: a policy in the same process, on the fake clock.
- `FakePolicyServer`, `FakeOrchestrator`: the two peers as real gRPC servers on a free port.
"""

from gen2act_robot.testing.fake_clock import FakeClock, InlineExecutor
from gen2act_robot.testing.fake_orchestrator import Attachment, FakeOrchestrator
from gen2act_robot.testing.fake_policy import FakePolicyServer, answer
from gen2act_robot.testing.mock_robot import (
    MOCK_LIMITS,
    Faults,
    JudgedMockRobot,
    MockRobot,
    Recorded,
)
from gen2act_robot.testing.scripted_link import ScriptedLink, ScriptedReply
from gen2act_robot.testing.specs import make_spec
from gen2act_robot.testing.waiting import until

__all__ = [
    "MOCK_LIMITS",
    "Attachment",
    "FakeClock",
    "FakeOrchestrator",
    "FakePolicyServer",
    "Faults",
    "InlineExecutor",
    "JudgedMockRobot",
    "MockRobot",
    "Recorded",
    "ScriptedLink",
    "ScriptedReply",
    "answer",
    "make_spec",
    "until",
]
