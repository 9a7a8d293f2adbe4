"""A tracker by its name on the command line: `flow`, or `module:Class` of one's own.

TAPIR, BootsTAPIR and CoTracker need weights that are not ours to ship: write a class with `track`
(see `protocol.py`) that loads yours, put its module on the Python path and name it:

    gen2act-data imagine ... --tracker my_trackers:BootsTapir
"""

from __future__ import annotations

import importlib

from .flow import OpticalFlow
from .protocol import Tracker


class UnknownTracker(ValueError):
    """No tracker under this name."""


def load_tracker(name: str) -> Tracker:
    """The named tracker, made without arguments.

    Raises:
        UnknownTracker: no such module or class, or one without `track`.
    """
    if name == "flow":
        return OpticalFlow()
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UnknownTracker(f"unknown tracker {name!r}, expected 'flow' or 'module:Class'")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownTracker(f"tracker {name!r} cannot be loaded: {error}") from error
    tracker: Tracker = found()
    if not callable(getattr(tracker, "track", None)):
        raise UnknownTracker(f"tracker {name!r} has no method track(frames, points)")
    return tracker
