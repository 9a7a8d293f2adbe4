"""The policy in one process, for evaluation: no network, no batching, same arithmetic."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gen2act_contracts import frames
from gen2act_contracts.errors import InvalidInput
from gen2act_contracts.frames import Frame
from gen2act_contracts.spec import ActionChunk
from gen2act_policy.bundle import load_bundle
from gen2act_policy.decoding import decode_actions
from gen2act_policy.goals import sample_indices
from gen2act_policy.history import (
    Floats,
    History,
    HistoryEntry,
    LazyFrame,
    Pixels,
    stack_features,
    stack_proprioception,
)
from gen2act_policy.runtime import OnnxRuntime
from gen2act_policy.words import word_ids


class LocalPolicy:
    """One rollout at a time of a bundle. Raises what `load_bundle` and `OnnxRuntime` raise."""

    def __init__(self, bundle: Path, provider: str = "cpu", threads: int = 0) -> None:
        loaded = load_bundle(bundle)
        self.spec = loaded.spec
        self._name = loaded.name
        self._conditioning = loaded.conditioning
        self._samples = loaded.goal_frames
        self._runtime = OnnxRuntime(loaded, provider, threads)
        self._goal: Floats | None = None
        self._history = History(self.spec.history_length)

    def start(self, goal: Pixels | str) -> None:
        """Begins a rollout that follows a human video uint8[N, S, S, 3] or, where the bundle is
        conditioned on language, an instruction.

        Raises `InvalidInput` for the other of the two, `InvalidInstruction`.
        """
        language = self._conditioning == "language"
        if isinstance(goal, str) != language:
            kinds = ("an instruction", "a human video")
            wanted, given = kinds if language else kinds[::-1]
            raise InvalidInput(f"the bundle {self._name!r} follows {wanted}, not {given}")
        self._goal = self._words(goal) if isinstance(goal, str) else self._video(goal)
        self._history = History(self.spec.history_length)

    def act(
        self, image: Pixels, proprioception: Sequence[float] | None = None
    ) -> tuple[ActionChunk, float]:
        """Action chunk and terminate probability for the newest frame uint8[S, S, 3].

        `proprioception` is (x, y, z [m], gripper opening [0, 1]), needed where the spec uses it.
        """
        if self._goal is None:
            raise RuntimeError("call start() with what is to be followed first")
        pixels = self._fit(image)
        values = None if proprioception is None else np.asarray(proprioception, np.float32)
        entry = HistoryEntry(LazyFrame(lambda: pixels), values)
        entry.set_features(self._runtime.encode(pixels[None]))
        self._history.append(entry)
        windows = [self._history.window()]
        measured = stack_proprioception(windows) if self.spec.uses_proprioception else None
        output = self._runtime.step(stack_features(windows), self._goal[None], measured)
        return decode_actions(output, self.spec)[0]

    def _words(self, instruction: str) -> Floats:
        return self._runtime.read(word_ids(instruction))

    def _video(self, human_video: Pixels) -> Floats:
        picked = [
            self._fit(human_video[i]) for i in sample_indices(len(human_video), self._samples)
        ]
        return self._runtime.resample(self._runtime.encode(np.stack(picked))[None])

    def _fit(self, image: Pixels) -> Pixels:
        return frames.resize(Frame(image), self.spec.image_size).pixels
