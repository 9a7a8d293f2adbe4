"""The three graphs of a bundle in ONNX Runtime, behind a protocol that tests can fake."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort

from gen2act_contracts.errors import BundleInvalid, ProviderMissing
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.bundle import PROPRIOCEPTION_DIMS, Bundle, graph_names
from gen2act_policy.cost import CostTable, measure
from gen2act_policy.history import Floats, Pixels
from gen2act_policy.words import WORDS, WordIds

# A model whose tick takes longer on one thread gets all cores for each call. A quicker one gains
# little from more threads: two made the shipped policy's step slower than one at batch 1.
SLOW_TICK_S = 0.05
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Raw outputs of the step graph for B rollouts."""

    action_logits: Floats  # float32[B, h, D, bins]
    gripper_logits: Floats  # float32[B, h]; sigmoid is the probability of closed
    terminate_logits: Floats  # float32[B]

    def take(self, count: int) -> "StepOutput":
        """The first `count` rollouts; what follows is padding."""
        return StepOutput(
            self.action_logits[:count], self.gripper_logits[:count], self.terminate_logits[:count]
        )


class Runtime(Protocol):
    """Runs the model. Blocking: called from the inference threads only, also at the same time."""

    @property
    def provider(self) -> str:
        """ONNX Runtime execution provider in use."""

    def encode(self, images: Pixels) -> Floats:
        """uint8[B, S, S, 3] to features float32[B, *F]."""

    def resample(self, features: Floats) -> Floats:
        """Features float32[1, goal_frames, *F] of a video to its goal tokens float32[*G]."""

    def step(self, history: Floats, goal: Floats, proprioception: Floats | None) -> StepOutput:
        """One action chunk for each of B rollouts.

        history float32[B, H, *F], oldest first; goal float32[B, *G]; proprioception
        float32[B, H, 4] where the spec uses it.
        """


class OnnxRuntime:
    """The bundle's graphs on one execution provider.

    Raises `ProviderMissing` if the asked provider cannot be used, `BundleInvalid` if a graph
    cannot be loaded or does not have the bundle's interface.
    """

    def __init__(self, bundle: Bundle, provider: str = "cpu", threads: int = 0) -> None:
        self._spec = bundle.spec
        self.threads = threads
        self.provider = _require_provider(provider)
        self._encoder = self._load(bundle, "frame_encoder", threads)
        _, goal, _ = graph_names(bundle.conditioning)
        self._goal = self._load(bundle, goal, threads)
        self._step = self._load(bundle, "step", threads)
        self._check_interface(bundle, goal)

    def encode(self, images: Pixels) -> Floats:
        return self._run(self._encoder, ["features"], {"image": images})[0]

    def resample(self, features: Floats) -> Floats:
        goal = self._run(self._goal, ["goal"], {"features": features})[0]
        return np.ascontiguousarray(goal[0])

    def read(self, words: WordIds) -> Floats:
        """Words int64[WORDS] to goal tokens float32[*G], where language is the condition."""
        goal = self._run(self._goal, ["goal"], {"words": words[None]})[0]
        return np.ascontiguousarray(goal[0])

    def step(self, history: Floats, goal: Floats, proprioception: Floats | None) -> StepOutput:
        inputs = {"history": history, "goal": goal}
        if proprioception is not None:
            inputs["proprioception"] = proprioception
        names = ["action_logits", "gripper_logits", "terminate_logits"]
        return StepOutput(*self._run(self._step, names, inputs))

    @staticmethod
    def _run(
        session: ort.InferenceSession, outputs: list[str], inputs: dict[str, Any]
    ) -> list[Floats]:
        return list(session.run(outputs, inputs))

    def _load(self, bundle: Bundle, name: str, threads: int) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Three sessions share the cores with the event loop: idle threads must not burn them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(
                str(bundle.graphs[name]), sess_options=options, providers=[self.provider]
            )
        except Exception as error:  # onnxruntime raises a dozen unrelated classes here
            raise BundleInvalid(
                f"graph {name} ({bundle.graphs[name].name}) does not load: {error}", graph=name
            ) from error
        used = session.get_providers()[0]
        if used != self.provider:
            # ONNX Runtime falls back in silence when the provider's libraries are not there.
            raise ProviderMissing(
                f"{self.provider} was asked for but could not be started on this machine "
                f"(ONNX Runtime fell back to {used}); check the driver and its libraries, or set "
                "GEN2ACT_PROVIDER=cpu",
                provider=self.provider,
            )
        return session

    def _check_interface(self, bundle: Bundle, goal_graph: str) -> None:
        """Runs each graph once and compares its outputs with the action spec."""
        spec = self._spec
        _check_names("frame_encoder", self._encoder, {"image"})
        language = bundle.conditioning == "language"
        _check_names(goal_graph, self._goal, {"words" if language else "features"})
        inputs = {"history", "goal"} | ({"proprioception"} if spec.uses_proprioception else set())
        _check_names("step", self._step, inputs)
        try:
            size = spec.image_size
            features = self.encode(np.zeros((1, size, size, 3), np.uint8))
            if language:
                goal = self.read(np.zeros(WORDS, np.int64))
            else:
                goal = self.resample(np.repeat(features[:, None], bundle.goal_frames, axis=1))
            history = np.repeat(features[:, None], spec.history_length, axis=1)
            out = self.step(history, goal[None], blank_proprioception(spec, 1))
        except Exception as error:
            raise BundleInvalid(f"the graphs do not fit each other: {error}") from error
        expected = {
            "action_logits": (1, spec.chunk_length, len(spec.dimensions), spec.bins),
            "gripper_logits": (1, spec.chunk_length),
            "terminate_logits": (1,),
        }
        for name, shape in expected.items():
            actual = getattr(out, name).shape
            if actual != shape:
                raise BundleInvalid(
                    f"graph step gives {name} of shape {list(actual)}, but the action spec asks "
                    f"for {list(shape)}",
                    graph="step",
                )
        self.feature_shape: tuple[int, ...] = features.shape[1:]
        self.goal_shape: tuple[int, ...] = goal.shape


def blank_proprioception(spec: ActionSpec, batch: int) -> Floats | None:
    """Zeros float32[batch, H, 4], or None where the spec does not use proprioception."""
    if not spec.uses_proprioception:
        return None
    return np.zeros((batch, spec.history_length, PROPRIOCEPTION_DIMS), np.float32)


def measure_costs(
    runtime: OnnxRuntime, spec: ActionSpec, max_batch: int
) -> tuple[CostTable, CostTable]:
    """Measured costs of the encoder and of the step; also warms both up. Takes about a second."""
    encode, step = _timed(runtime, spec)
    return measure(encode, max_batch), measure(step, max_batch)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def fitted_runtime(bundle: Bundle, provider: str = "cpu", threads: int = 0) -> OnnxRuntime:
    """The runtime with that many threads in a call; 0: what suits the model on this machine."""
    runtime = OnnxRuntime(bundle, provider, threads or 1)
    if threads or cores() == 1:
        return runtime
    encode, step = _timed(runtime, bundle.spec)
    if min(encode(1) + step(1) for _ in range(4)) <= SLOW_TICK_S:
        return runtime
    return OnnxRuntime(bundle, provider, cores())


def _timed(
    runtime: OnnxRuntime, spec: ActionSpec
) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Encoder and step on blank inputs: batch to seconds."""

    def encode(batch: int) -> float:
        images = np.zeros((batch, spec.image_size, spec.image_size, 3), np.uint8)
        started = time.perf_counter()
        runtime.encode(images)
        return time.perf_counter() - started

    def step(batch: int) -> float:
        history = np.zeros((batch, spec.history_length, *runtime.feature_shape), np.float32)
        goal = np.zeros((batch, *runtime.goal_shape), np.float32)
        proprioception = blank_proprioception(spec, batch)
        started = time.perf_counter()
        runtime.step(history, goal, proprioception)
        return time.perf_counter() - started

    return encode, step


def _require_provider(provider: str) -> str:
    name = PROVIDERS.get(provider)
    if name is None:
        raise ProviderMissing(
            f"unknown provider {provider!r}; valid: {', '.join(PROVIDERS)}", provider=provider
        )
    available = ort.get_available_providers()
    if name not in available:
        raise ProviderMissing(
            f"GEN2ACT_PROVIDER={provider} needs {name}, but this ONNX Runtime only has "
            f"{', '.join(available)}; install gen2act-policy[gpu] (onnxruntime-gpu in place of "
            "onnxruntime) or set GEN2ACT_PROVIDER=cpu",
            provider=name,
        )
    return name


def _check_names(graph: str, session: ort.InferenceSession, expected: set[str]) -> None:
    actual = {node.name for node in session.get_inputs()}
    if actual != expected:
        raise BundleInvalid(
            f"graph {graph} has inputs {sorted(actual)}, expected {sorted(expected)}", graph=graph
        )
