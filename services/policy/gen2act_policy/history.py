"""The last robot frames of one rollout, each decoded once and encoded once in its life."""

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class LazyFrame:
    """A frame that is decoded by whichever thread needs it first, and only once.

    `decode` returns uint8[S, S, 3] RGB and may raise `InvalidImage`, which every caller of
    `pixels` then gets.
    """

    __slots__ = ("_decode", "_error", "_lock", "_pixels", "decode_s")

    def __init__(self, decode: Callable[[], Pixels]) -> None:
        self._decode: Callable[[], Pixels] | None = decode
        self._pixels: Pixels | None = None
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self.decode_s = 0.0

    def pixels(self) -> Pixels:
        """uint8[S, S, 3]; blocks while another thread is decoding the same frame."""
        with self._lock:
            if self._decode is not None:
                started = time.perf_counter()
                try:
                    self._pixels = self._decode()
                except Exception as error:
                    # Kept, not swallowed: it is raised below, in the thread that needs the frame.
                    self._error = error
                self._decode = None
                self.decode_s = time.perf_counter() - started
            if self._error is not None:
                raise self._error
            assert self._pixels is not None
            return self._pixels

    def prefetch(self) -> None:
        """Decodes ahead of need; an error is kept for the caller of `pixels`."""
        try:
            self.pixels()
        except Exception:
            return  # stored by `pixels` and raised again where the frame is used


class HistoryEntry:
    """One frame on its way from bytes to features, with the proprioception measured with it."""

    __slots__ = ("features", "frame", "proprioception")

    def __init__(self, frame: LazyFrame, proprioception: Floats | None) -> None:
        self.frame: LazyFrame | None = frame
        self.proprioception = proprioception
        """float32[4]: end-effector position x, y, z [m], gripper opening [0, 1]."""
        self.features: Floats | None = None
        """float32[1, *F]"""

    def set_features(self, features: Floats) -> None:
        """Keeps the encoder's output float32[1, *F] and lets the pixels go."""
        self.features = features
        self.frame = None


class History:
    """Ring of the last `length` frames of a rollout."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._entries: deque[HistoryEntry] = deque(maxlen=length)

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, entry: HistoryEntry) -> None:
        self._entries.append(entry)

    def window(self) -> tuple[HistoryEntry, ...]:
        """Exactly `length` entries, oldest first; a young rollout repeats its first frame."""
        if not self._entries:
            raise ValueError("a history without a frame has no window")
        padding = self._length - len(self._entries)
        return (self._entries[0],) * padding + tuple(self._entries)

    def pending(self) -> int:
        """Number of frames that were not encoded yet."""
        return sum(entry.features is None for entry in self._entries)


def stack_features(windows: list[tuple[HistoryEntry, ...]]) -> Floats:
    """float32[B, length, *F] from B windows of encoded entries."""
    features = [
        entry.features for window in windows for entry in window if entry.features is not None
    ]
    length = len(windows[0])
    assert len(features) == len(windows) * length, "a frame reached the step without features"
    return np.concatenate(features).reshape(len(windows), length, *features[0].shape[1:])


def stack_proprioception(windows: list[tuple[HistoryEntry, ...]]) -> Floats:
    """float32[B, length, 4]; padded like the frames."""
    rows = [[entry.proprioception for entry in window] for window in windows]
    return np.asarray(rows, dtype=np.float32)
