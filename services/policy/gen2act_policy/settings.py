"""Settings of the policy service; environment prefix `GEN2ACT_`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from gen2act_servicekit import ServiceSettings


class PolicySettings(ServiceSettings):
    port: int = 50052
    metrics_port: int = 9102
    bundle: Path = Path("models/tiny")
    """Folder with the model's manifest and graphs."""
    provider: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(default=0, ge=0, le=256)
    """Threads of one inference call; the cores are shared out among as many calls as fit. 0: one
    thread, or all cores where a robot's tick takes more than 50 ms on one."""
    max_rollouts: int = Field(default=256, ge=1)
    """Open rollouts this replica takes before it refuses more."""
    max_batch: int = Field(default=32, ge=1, le=256)
    """Largest number of rollouts in one step."""
    cached_goals: int = Field(default=64, ge=1)
    """Videos whose goal tokens are kept in memory."""
    rollout_idle_s: float = Field(default=120.0, gt=0)
    """[s] A rollout without an observation for this long is ended."""
