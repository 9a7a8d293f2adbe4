"""Fakes at the edges of the orchestrator: a robot, the video service, the policy service.

All speak real gRPC. Not used by the service itself.
"""

from gen2act_orchestrator.testing.peers import SPEC, FakePolicy, FakeVideogen, serving
from gen2act_orchestrator.testing.robot import FakeRobot

__all__ = ["SPEC", "FakePolicy", "FakeRobot", "FakeVideogen", "serving"]
