"""Settings of the process, from GEN2ACT_* in the environment; read in `main` only."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator, model_validator

from gen2act_orchestrator.adapters.planners import LlmSettings
from gen2act_orchestrator.domain.foresight import Foresight
from gen2act_orchestrator.domain.task import Limits
from gen2act_orchestrator.service.patience import Patience
from gen2act_orchestrator.service.settings import RunSettings
from gen2act_servicekit import ServiceSettings


class OrchestratorSettings(ServiceSettings):
    """What can be configured; each field is GEN2ACT_<FIELD>."""

    http_port: int = Field(default=8000, ge=0, le=65535)
    gateway_port: int = Field(default=50053, ge=0, le=65535)
    videogen: str = Field(default="localhost:50051", description="address of the video service")
    policy: str = Field(default="localhost:50052", description="address of the policy service")
    robot_policy_address: str = Field(
        default="", description="policy address told to robots; empty: the one they were given"
    )
    llm_base_url: str = Field(default="", description='e.g. "http://localhost:8080/v1"')
    llm_model: str = ""
    llm_api_key: SecretStr = SecretStr("")
    llm_timeout_s: float = Field(default=30.0, gt=0, le=600)
    llm_attempts: int = Field(default=3, ge=1, le=10)

    lease_s: float = Field(default=10.0, ge=0.5, le=300, description="of a silent robot [s]")
    robot_wait_s: float = Field(
        default=60.0, ge=1, le=86400, description="an interrupted task waits so long [s]"
    )
    max_restarts: int = Field(default=3, ge=0, le=100, description="of one stage")
    gate_threshold: float = Field(default=0.5, gt=0, le=1)
    gate_consecutive: int = Field(default=2, ge=1, le=100)
    speculate: bool = Field(
        default=False, description="begin the next stage's video when a stage is likely over"
    )
    speculate_change: float = Field(
        default=Foresight.largest_change,
        ge=0,
        le=1,
        description="share of the picture that may differ after the reset for it to be used",
    )
    max_ticks: int = Field(default=60, ge=1, le=600, description="of a stage, unless a task says")
    budget_fails_task: bool = Field(
        default=True, description="false: go on to the next stage; the task fails at its end"
    )
    peer_patience_s: float = Field(default=60.0, ge=0, le=3600)
    store_patience_s: float = Field(default=30.0, ge=0, le=3600)
    generate_s: float = Field(default=180.0, gt=0, le=3600, description="one video [s]")
    reset_s: float = Field(default=60.0, gt=0, le=3600)
    tick_s: float = Field(default=15.0, gt=0, le=600, description="between two ticks [s]")
    sweep_every_s: float = Field(default=1.0, gt=0, le=60)
    keep_tasks_s: int = Field(default=7 * 24 * 3600, ge=60)
    max_live_tasks: int = Field(default=1000, ge=1, le=100_000)

    @field_validator("llm_base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @model_validator(mode="after")
    def _llm_is_whole(self) -> OrchestratorSettings:
        if bool(self.llm_base_url) != bool(self.llm_model):
            raise ValueError("GEN2ACT_LLM_BASE_URL and GEN2ACT_LLM_MODEL must be set together")
        return self

    @property
    def llm(self) -> LlmSettings | None:
        """The language model to plan with, or None for the offline planner."""
        if not self.llm_base_url:
            return None
        return LlmSettings(
            self.llm_base_url,
            self.llm_model,
            self.llm_api_key,
            attempts=self.llm_attempts,
            timeout_s=self.llm_timeout_s,
        )

    @property
    def run(self) -> RunSettings:
        """The bounds that the service layer runs by."""
        return RunSettings(
            limits=Limits(self.max_restarts, self.robot_wait_s, self.budget_fails_task),
            gate_threshold=self.gate_threshold,
            gate_consecutive=self.gate_consecutive,
            foresight=Foresight(self.speculate, self.speculate_change),
            store_patience=Patience(total_s=self.store_patience_s),
            peer_patience=Patience(total_s=self.peer_patience_s),
            generate_s=self.generate_s,
            reset_s=self.reset_s,
            tick_s=self.tick_s,
        )
