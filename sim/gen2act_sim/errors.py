"""The error tree of the simulator.

SimError
├── UnknownTask            no such task, instruction or scene
├── InvalidState           state bytes that are corrupt, too big or of another version
├── InvalidAction          a displacement that is not finite or not [3]
├── NoStage                success or expert asked before `begin_stage`
├── DemonstrationFailed    the scripted demonstrator did not reach success
└── SystemLibraryMissing   neither EGL nor OSMesa can be loaded
"""

from __future__ import annotations


class SimError(Exception):
    """Base of everything this package raises on purpose."""


class UnknownTask(SimError):
    """No such task, instruction or scene; the message lists what is known."""


class InvalidState(SimError):
    """State bytes that cannot be a state of this version of the simulator."""


class InvalidAction(SimError):
    """An action the simulator refuses to execute."""


class NoStage(SimError):
    """A stage's success or expert was asked for before `World.begin_stage`."""


class DemonstrationFailed(SimError):
    """The scripted demonstrator did not reach success from this state."""


class SystemLibraryMissing(SimError):
    """Off-screen rendering is impossible; the message names the command that helps."""
