import threading

import numpy as np
import pytest

from gen2act_contracts.errors import InvalidImage
from gen2act_policy.history import (
    Floats,
    History,
    HistoryEntry,
    LazyFrame,
    Pixels,
    stack_features,
    stack_proprioception,
)


def entry(number: int) -> HistoryEntry:
    made = HistoryEntry(
        LazyFrame(lambda: np.zeros((1, 1, 3), np.uint8)), np.full(4, number, np.float32)
    )
    made.set_features(np.full((1, 2, 3), number, np.float32))
    return made


def order(history: History) -> list[int]:
    features: Floats = stack_features([history.window()])
    measured = stack_proprioception([history.window()])
    assert (features[0, :, 0, 0] == measured[0, :, 0]).all()
    return [int(value) for value in features[0, :, 0, 0]]


def test_a_young_history_repeats_its_first_frame() -> None:
    history = History(8)
    for number in range(1, 4):
        history.append(entry(number))
    assert order(history) == [1, 1, 1, 1, 1, 1, 2, 3]


def test_a_full_history_keeps_the_last_frames_oldest_first() -> None:
    history = History(8)
    for number in range(1, 12):
        history.append(entry(number))
    assert order(history) == [4, 5, 6, 7, 8, 9, 10, 11]


def test_encoded_frames_let_their_pixels_go() -> None:
    history = History(8)
    history.append(HistoryEntry(LazyFrame(lambda: np.zeros((1, 1, 3), np.uint8)), None))
    assert history.pending() == 1
    history.window()[0].set_features(np.zeros((1, 1), np.float32))
    assert history.pending() == 0
    assert history.window()[0].frame is None


def test_a_frame_is_decoded_once_however_many_threads_ask() -> None:
    calls: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def decode() -> Pixels:
        calls.append(1)
        begun.set()
        assert go.wait(10)
        return np.zeros((2, 2, 3), np.uint8)

    frame = LazyFrame(decode)
    threads = [threading.Thread(target=frame.prefetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go.set()
    assert frame.pixels().shape == (2, 2, 3)
    for thread in threads:
        thread.join(10)
    assert calls == [1]


def test_a_bad_image_found_ahead_is_raised_where_it_is_used() -> None:
    def decode() -> Pixels:
        raise InvalidImage("truncated")

    frame = LazyFrame(decode)
    frame.prefetch()
    for _ in range(2):
        with pytest.raises(InvalidImage):
            frame.pixels()
