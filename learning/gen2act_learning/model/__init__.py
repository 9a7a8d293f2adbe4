"""The policy network and its training-only heads."""

from .auxiliary import Auxiliary
from .encoder import Encoded
from .policy import WORKSPACE_CENTER_M, WORKSPACE_SCALE_M, ActionLogits, Policy

__all__ = [
    "WORKSPACE_CENTER_M",
    "WORKSPACE_SCALE_M",
    "ActionLogits",
    "Auxiliary",
    "Encoded",
    "Policy",
]
