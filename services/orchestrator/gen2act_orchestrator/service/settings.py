"""Numbers the service layer runs by. Every wait in it has its bound here."""

from __future__ import annotations

from dataclasses import dataclass, field

from gen2act_orchestrator.domain.foresight import Foresight
from gen2act_orchestrator.domain.task import Limits
from gen2act_orchestrator.service.patience import Patience


@dataclass(frozen=True)
class RunSettings:
    """Bounds of the execution of stages. Durations in [s]."""

    limits: Limits = field(default_factory=Limits)
    gate_threshold: float = 0.5
    gate_consecutive: int = 2
    foresight: Foresight = field(default_factory=Foresight)
    store_patience: Patience = field(default_factory=lambda: Patience(total_s=30.0))
    peer_patience: Patience = field(default_factory=lambda: Patience(total_s=60.0))
    spec_s: float = 5.0  # one GetSpec call
    reset_s: float = 60.0  # reset pose and scene frame
    generate_s: float = 180.0  # one video
    prepare_s: float = 60.0  # one PrepareGoal call
    start_s: float = 20.0  # robot opens the rollout with the policy
    tick_s: float = 15.0  # between two reports of a rollout
    end_s: float = 15.0  # from EndRollout to the robot's RolloutEnded
    hold_s: float = 5.0  # acknowledgement of a hold
    restart_pause_s: float = 0.5  # before a stage begins again
    progress_every_s: float = 0.2  # progress events of one phase of a video, at most this often
    poll_s: float = 1.0  # a robot without work looks for some
