"""The learned video model in ONNX Runtime: a picture, a sentence and a seed in, frames out.

A bundle has `manifest.json` and three graphs (S, the tasks, the vocabulary and the number of noise
values are in the manifest):

- `text`:  words int64[1, W]                                   -> logits float32[1, tasks + 1]
- `plan`:  scene uint8[1, S, S, 3], task int64[1],
           noise float32[Z], progress float32[N] in [0, 1]     -> present float32[tasks], what
           `frame` needs; of that, outputs listed in `TIMED` have a first axis of N
- `frame`: the plan, of timed outputs one row; task int64[1]   -> frame uint8[S, S, 3]

Imports onnxruntime when a bundle is loaded, so that a service without it can say what is missing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gen2act_contracts.errors import BundleInvalid, ProviderMissing, UnsupportedInstruction
from gen2act_contracts.frames import Frame, resize

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

MANIFEST = "manifest.json"
GRAPHS = ("text", "plan", "frame")
TIMED = frozenset(("hand_m", "opening", "moved_px"))
SURE = 0.6  # probability from which a sentence asks for one of the tasks at all
CLEAR = 0.7  # share of that from which it asks for this one
SEEN = 0.5  # probability from which what a task needs is in the picture

_WORD = re.compile(r"[a-z]+")
_UNKNOWN_WORD = 1  # id 0 is padding


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Graph(_Strict):
    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")  # a plain name: no way out
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Task(_Strict):
    id: str
    instruction: str


class _Manifest(_Strict):
    """`manifest.json`, format 1."""

    format: Literal[1]
    name: str = Field(min_length=1, max_length=200)
    image_size: int = Field(ge=64, le=1024)
    fps: float = Field(gt=0, le=120)
    noise: int = Field(ge=1, le=1024)
    max_words: int = Field(ge=4, le=256)
    tasks: tuple[_Task, ...] = Field(min_length=1)
    vocabulary: tuple[str, ...]
    graphs: dict[str, _Graph]
    training: dict[str, Any] = {}  # provenance, free form


@dataclass(frozen=True)
class Progress:
    """Told between frames; raising from it ends the generation."""

    done: int
    of: int


class Imagination:
    """A loaded bundle. Blocking; one generation at a time uses it.

    Args:
        folder: of the bundle.
        threads: of ONNX Runtime; 0: as it likes.

    Raises:
        BundleInvalid: the folder holds no sound bundle; names the file and the reason.
        ProviderMissing: onnxruntime is not installed.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ProviderMissing(
                "onnxruntime is not installed: pip install 'gen2act-videogen[learned]'"
            ) from error
        raw = _read(folder)
        self._manifest = _parsed(raw, folder)
        self.version = f"{self._manifest.name}/{hashlib.sha256(raw).hexdigest()[:12]}"
        words = self._manifest.vocabulary
        self._ids = {word: index for index, word in enumerate(words) if index > _UNKNOWN_WORD}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that wait for work must not burn the cores that the policy's ticks need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")

        def session(name: str) -> Any:
            data = _checked(folder, name, self._manifest)
            try:
                return onnxruntime.InferenceSession(
                    data, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # onnxruntime's errors share no public base
                raise BundleInvalid(f"{folder}/{name}: not a graph that loads: {error}") from error

        self._text, self._plan, self._frame = (session(name) for name in GRAPHS)
        self._plan_outputs = [output.name for output in self._plan.get_outputs()]
        self._frame_inputs = [given.name for given in self._frame.get_inputs()]

    @property
    def image_size(self) -> int:
        """Side of the frames [px]."""
        return self._manifest.image_size

    @property
    def fps(self) -> float:
        return self._manifest.fps

    @property
    def instructions(self) -> tuple[str, ...]:
        """What it can show, as imperatives."""
        return tuple(task.instruction for task in self._manifest.tasks)

    def read(self, instruction: str) -> F32:
        """Probability of each task, as far as the words tell [tasks].

        Raises:
            UnsupportedInstruction: none of them; says which there are.
        """
        found = [self._ids.get(w, _UNKNOWN_WORD) for w in words_of(instruction)]
        if not found:
            raise self._refusal(instruction)
        words = np.zeros((1, self._manifest.max_words), np.int64)
        found = found[: self._manifest.max_words]
        words[0, : len(found)] = found
        (logits,) = self._text.run(None, {"words": words})
        shares = np.exp(logits[0] - logits[0].max())
        shares /= shares.sum()
        if shares[-1] > 1 - SURE:
            raise self._refusal(instruction)
        asked: F32 = shares[:-1]
        return asked

    def imagine(
        self, instruction: str, scene: U8, seed: int, frames: int, told: Callable[[Progress], None]
    ) -> U8:
        """A person doing it.

        Args:
            instruction: what is to be done, in words.
            scene: square RGB picture uint8 [S', S', 3] of any side.
            seed: decides who acts, when, and from where.
            frames: N, at least 2.
            told: called after the plan and after every frame.

        Returns:
            uint8 [N, S, S, 3]

        Raises:
            UnsupportedInstruction: it cannot show that, or not in this picture.
        """
        asked = self.read(instruction)
        noise = np.random.default_rng(seed % 2**64).standard_normal(self._manifest.noise)
        given: dict[str, npt.NDArray[Any]] = {
            "scene": resize(Frame(scene), self._manifest.image_size).pixels[None],
            "noise": noise.astype(np.float32),
            "progress": np.linspace(0, 1, frames, dtype=np.float32),
        }
        plan = self._planned(given, int(asked.argmax()))
        # "Press the button": the picture tells which.
        meant = asked * plan["present"]
        task = int(meant.argmax())
        if plan["present"][task] < SEEN or meant[task] < CLEAR * meant.sum():
            raise self._refusal(instruction, plan["present"])
        if task != plan["task"][0]:
            plan = self._planned(given, task)
        told(Progress(0, frames))
        pictures = []
        for row in range(frames):
            inputs = {
                name: plan[name][row : row + 1] if name in TIMED else plan[name]
                for name in self._frame_inputs
            }
            pictures.append(self._frame.run(None, inputs)[0])
            told(Progress(row + 1, frames))
        return np.stack(pictures)

    def _planned(self, given: dict[str, npt.NDArray[Any]], task: int) -> dict[str, Any]:
        index = np.array([task], np.int64)
        made = self._plan.run(None, {**given, "task": index})
        return {**dict(zip(self._plan_outputs, made, strict=True)), "task": index}

    def _refusal(self, instruction: str, present: F32 | None = None) -> UnsupportedInstruction:
        """Says what can be shown: at all, or in a picture where these tasks are `present`."""
        possible = np.ones(len(self.instructions)) if present is None else present
        where = "" if present is None else " in this picture"
        known = [i for i, share in zip(self.instructions, possible, strict=True) if share >= SEEN]
        listed = ", ".join(f'"{each}"' for each in known)
        can = f"it can: {listed}" if known else "it sees nothing there that it knows"
        return UnsupportedInstruction(
            f'the learned video model cannot show "{instruction[:200]}"{where}; {can}'
        )


def words_of(sentence: str) -> list[str]:
    """Lower-case words, as the text graph was trained on them; the rest only separates."""
    return _WORD.findall(sentence.lower().replace("'", ""))


def _read(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleInvalid(
            f"no video model at {folder}: {MANIFEST} cannot be read ({error.strerror})"
        ) from error


def _parsed(raw: bytes, folder: Path) -> _Manifest:
    try:
        manifest = _Manifest.model_validate(json.loads(raw))
    except (ValueError, ValidationError) as error:
        raise BundleInvalid(f"{folder}/{MANIFEST} is not a manifest: {error}") from error
    missing = [name for name in GRAPHS if name not in manifest.graphs]
    if missing:
        raise BundleInvalid(f"{folder}/{MANIFEST} lacks the graph {missing[0]!r}")
    return manifest


def _checked(folder: Path, name: str, manifest: _Manifest) -> bytes:
    entry = manifest.graphs[name]
    try:
        data = (folder / entry.file).read_bytes()
    except OSError as error:
        raise BundleInvalid(f"{folder}/{entry.file} cannot be read ({error.strerror})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise BundleInvalid(
            f"{folder}/{entry.file} has sha256 {found[:12]}…, "
            f"the manifest says {entry.sha256[:12]}…"
        )
    return data
