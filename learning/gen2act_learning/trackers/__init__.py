"""Point trackers behind one protocol: simulator truth, optical flow, or a class of your own."""

from .flow import OpticalFlow
from .plugin import UnknownTracker, load_tracker
from .points import pick_points
from .protocol import Tracker, Tracks
from .truth import SimulatorTruth

__all__ = [
    "OpticalFlow",
    "SimulatorTruth",
    "Tracker",
    "Tracks",
    "UnknownTracker",
    "load_tracker",
    "pick_points",
]
