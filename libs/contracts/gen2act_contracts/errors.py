"""Every error one part of Gen2Act tells another, in one tree.

Gen2ActError
  InvalidInput                     INVALID_INPUT
    InvalidInstruction             INVALID_INSTRUCTION
    InvalidImage                   INVALID_IMAGE
    InvalidVideo                   INVALID_VIDEO
    NonFiniteInput                 NON_FINITE
  NotFound                         NOT_FOUND
    UnknownRobot                   UNKNOWN_ROBOT
    UnknownTask                    UNKNOWN_TASK
    VideoExpired                   VIDEO_EXPIRED
    GoalExpired                    GOAL_EXPIRED
    UnknownBackend                 UNKNOWN_BACKEND
    ArtefactMissing                ARTEFACT_MISSING
  Conflict                         CONFLICT
    RobotIdInUse                   ROBOT_ID_IN_USE
    InvalidTransition              INVALID_TRANSITION
    IdempotencyMismatch            IDEMPOTENCY_MISMATCH
  ContractMismatch                 CONTRACT_MISMATCH
    SpecMismatch                   SPEC_MISMATCH
  PlanningFailed                   PLANNING_FAILED
    UnknownActivity                UNKNOWN_ACTIVITY
    PlannerUnavailable             PLANNER_UNAVAILABLE (retryable)
  GenerationFailed                 GENERATION_FAILED
    BackendRequires                BACKEND_REQUIRES
    VideoRejected                  VIDEO_REJECTED
    UnsupportedInstruction         UNSUPPORTED_INSTRUCTION
    GenerationCancelled            GENERATION_CANCELLED
  BundleInvalid                    BUNDLE_INVALID
  ProviderMissing                  PROVIDER_MISSING
  Unavailable                      UNAVAILABLE (retryable, and all below)
    StoreUnavailable               STORE_UNAVAILABLE
    PeerUnavailable                PEER_UNAVAILABLE
    Overloaded                     OVERLOADED
    Draining                       DRAINING
  DeadlineExceeded                 DEADLINE_EXCEEDED (retryable)
  RobotFault                       ROBOT_FAULT
    RobotLost                      ROBOT_LOST
    RobotStopped                   ROBOT_STOPPED
    UnsafeAction                   UNSAFE_ACTION
  Internal                         INTERNAL

A message names the bad value and what would be valid. `metadata` carries the same facts for
programs. `gen2act_contracts.rpc` maps the tree to gRPC; the orchestrator maps it to HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar


class Gen2ActError(Exception):
    """Root of the tree.

    Args:
        message: what is wrong and what would be valid, readable by the user.
        metadata: the same facts for programs; travels with the error over gRPC.
    """

    code: ClassVar[str] = "INTERNAL"
    # Whether the same request may succeed when sent again, unchanged, a little later.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "", **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: dict[str, str] = metadata

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, metadata={self.metadata!r})"


class InvalidInput(Gen2ActError):
    """The caller sent something that can never be right."""

    code = "INVALID_INPUT"


class InvalidInstruction(InvalidInput):
    code = "INVALID_INSTRUCTION"


class InvalidImage(InvalidInput):
    code = "INVALID_IMAGE"


class InvalidVideo(InvalidInput):
    code = "INVALID_VIDEO"


class NonFiniteInput(InvalidInput):
    """A number is NaN or infinite."""

    code = "NON_FINITE"


class NotFound(Gen2ActError):
    code = "NOT_FOUND"


class UnknownRobot(NotFound):
    code = "UNKNOWN_ROBOT"


class UnknownTask(NotFound):
    """No task with this id."""

    code = "UNKNOWN_TASK"


class VideoExpired(NotFound):
    """The video id is unknown, or was stored and its time to live is over."""

    code = "VIDEO_EXPIRED"


class GoalExpired(NotFound):
    """The goal's tokens are gone and so is the video they could be rebuilt from."""

    code = "GOAL_EXPIRED"


class UnknownBackend(NotFound):
    code = "UNKNOWN_BACKEND"


class ArtefactMissing(NotFound):
    """The stage has no such artefact, or not yet."""

    code = "ARTEFACT_MISSING"


class Conflict(Gen2ActError):
    code = "CONFLICT"


class RobotIdInUse(Conflict):
    """Another living robot process holds this id."""

    code = "ROBOT_ID_IN_USE"


class InvalidTransition(Conflict):
    """The task or stage is in a state in which this is not possible."""

    code = "INVALID_TRANSITION"


class IdempotencyMismatch(Conflict):
    """The same Idempotency-Key came with another request body."""

    code = "IDEMPOTENCY_MISMATCH"


class ContractMismatch(Gen2ActError):
    """The peers do not speak the same contract version."""

    code = "CONTRACT_MISMATCH"


class SpecMismatch(ContractMismatch):
    """The policy's actions do not fit the robot's driver."""

    code = "SPEC_MISMATCH"


class PlanningFailed(Gen2ActError):
    code = "PLANNING_FAILED"


class UnknownActivity(PlanningFailed):
    """The offline planner does not know how to split this instruction."""

    code = "UNKNOWN_ACTIVITY"


class PlannerUnavailable(PlanningFailed):
    """The language model could not be reached."""

    code = "PLANNER_UNAVAILABLE"
    retryable = True


class GenerationFailed(Gen2ActError):
    code = "GENERATION_FAILED"


class BackendRequires(GenerationFailed):
    """The backend needs something the request does not bring, e.g. simulator state."""

    code = "BACKEND_REQUIRES"


class VideoRejected(GenerationFailed):
    """The video was made but failed the sanity gate; the robot must not follow it."""

    code = "VIDEO_REJECTED"


class UnsupportedInstruction(GenerationFailed):
    """The backend cannot show this task."""

    code = "UNSUPPORTED_INSTRUCTION"


class GenerationCancelled(GenerationFailed):
    code = "GENERATION_CANCELLED"


class BundleInvalid(Gen2ActError):
    """A model bundle has a missing graph, a wrong hash or an unknown format."""

    code = "BUNDLE_INVALID"


class ProviderMissing(Gen2ActError):
    """The asked ONNX Runtime execution provider is not installed."""

    code = "PROVIDER_MISSING"


class Unavailable(Gen2ActError):
    code = "UNAVAILABLE"
    retryable = True


class StoreUnavailable(Unavailable):
    """Redis cannot be reached."""

    code = "STORE_UNAVAILABLE"


class PeerUnavailable(Unavailable):
    """Another service cannot be reached."""

    code = "PEER_UNAVAILABLE"


class Overloaded(Unavailable):
    """A bounded queue is full."""

    code = "OVERLOADED"


class Draining(Unavailable):
    """The service is shutting down and takes nothing new."""

    code = "DRAINING"


class DeadlineExceeded(Gen2ActError):
    code = "DEADLINE_EXCEEDED"
    retryable = True


class RobotFault(Gen2ActError):
    code = "ROBOT_FAULT"


class RobotLost(RobotFault):
    """The robot's connection broke and it did not come back within the lease."""

    code = "ROBOT_LOST"


class RobotStopped(RobotFault):
    """Somebody stopped the robot."""

    code = "ROBOT_STOPPED"


class UnsafeAction(RobotFault):
    """The robot's safety gate refused an action."""

    code = "UNSAFE_ACTION"


class Internal(Gen2ActError):
    """A defect on our side. The message carries an id that stands in the server's log."""

    code = "INTERNAL"


def _walk(root: type[Gen2ActError]) -> Iterator[type[Gen2ActError]]:
    for child in root.__subclasses__():
        # A subclass that sets no code of its own is private to its service and travels as its
        # parent.
        if "code" in vars(child):
            yield child
        yield from _walk(child)


def by_code() -> dict[str, type[Gen2ActError]]:
    """Every error class of this module by its code."""
    return {kind.code: kind for kind in _walk(Gen2ActError) if kind.__module__ == __name__}


_BY_CODE = by_code()


def from_code(code: str, message: str, metadata: Mapping[str, str] | None = None) -> Gen2ActError:
    """The typed error for a code. An unknown code (a newer peer's) becomes `Internal`."""
    kind = _BY_CODE.get(code)
    # Not through **metadata: a peer's key may not be an identifier, or be called "message".
    error = Internal(message) if kind is None else kind(message)
    error.metadata.update(metadata or {})
    if kind is None:
        error.metadata["code"] = code
    return error
