"""The HTTP API: convert, call the service layer, convert back."""

from gen2act_orchestrator.entrypoints.http.app import build_app
from gen2act_orchestrator.entrypoints.http.deps import HttpDeps

__all__ = ["HttpDeps", "build_app"]
