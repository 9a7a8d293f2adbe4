"""The policy in one process, for evaluation: no network, no batching, same arithmetic."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gen2act_contracts import frames
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


class LocalPolicy:
    """One rollout at a time of a bundle. Raises what `load_bundle` and `OnnxRuntime` raise."""

    def __init__(self, bundle: Path, provider: str = "cpu", threads: int = 0) -> None:
        loaded = load_bundle(bundle)
        self.spec = loaded.spec
        self._samples = loaded.goal_frames
        self._runtime = OnnxRuntime(loaded, provider, threads)
        self._goal: Floats | None = None
        self._history = History(self.spec.history_length)

    def start(self, human_video: Pixels) -> None:
        """Begins a rollout that follows `human_video` uint8[N, S, S, 3]."""
        picked = [
            self._fit(human_video[i]) for i in sample_indices(len(human_video), self._samples)
        ]
        self._goal = self._runtime.resample(self._runtime.encode(np.stack(picked))[None])
        self._history = History(self.spec.history_length)

    def act(
        self, image: Pixels, proprioception: Sequence[float] | None = None
    ) -> tuple[ActionChunk, float]:
        """Action chunk and terminate probability for the newest frame uint8[S, S, 3].

        `proprioception` is (x, y, z [m], gripper opening [0, 1]), needed where the spec uses it.
        """
        if self._goal is None:
            raise RuntimeError("call start() with the human video first")
        pixels = self._fit(image)
        values = None if proprioception is None else np.asarray(proprioception, np.float32)
        entry = HistoryEntry(LazyFrame(lambda: pixels), values)
        entry.set_features(self._runtime.encode(pixels[None]))
        self._history.append(entry)
        windows = [self._history.window()]
        measured = stack_proprioception(windows) if self.spec.uses_proprioception else None
        output = self._runtime.step(stack_features(windows), self._goal[None], measured)
        return decode_actions(output, self.spec)[0]

    def _fit(self, image: Pixels) -> Pixels:
        return frames.resize(Frame(image), self.spec.image_size).pixels
