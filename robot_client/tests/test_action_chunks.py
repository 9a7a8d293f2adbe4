import numpy as np

from gen2act_contracts.spec import ActionChunk
from gen2act_robot.chunks import ChunkBuffer, TimedChunk


def timed(tick: int, *, expires_ns: int = 10**12, steps: int = 4) -> TimedChunk:
    values = np.arange(steps * 3, dtype=np.float32).reshape(steps, 3)
    gripper = np.linspace(0, 1, steps, dtype=np.float32)
    return TimedChunk(
        ActionChunk(values, gripper), sequence=tick, captured_at_tick=tick, expires_ns=expires_ns
    )


def test_the_index_is_the_ticks_since_capture_for_arm_and_gripper() -> None:
    buffer = ChunkBuffer()
    buffer.offer(timed(10), now_ns=0)
    action = buffer.action_for(12, now_ns=0)
    assert action is not None
    assert action.index == 2
    assert action.values.tolist() == [6.0, 7.0, 8.0]
    assert action.gripper == np.float32(2 / 3)


def test_a_chunk_ends_after_its_last_action() -> None:
    buffer = ChunkBuffer()
    buffer.offer(timed(10), now_ns=0)
    assert buffer.action_for(13, now_ns=0) is not None
    assert buffer.action_for(14, now_ns=0) is None
    assert buffer.action_for(9, now_ns=0) is None


def test_an_expired_chunk_is_neither_taken_nor_used() -> None:
    buffer = ChunkBuffer()
    assert not buffer.offer(timed(10, expires_ns=5), now_ns=5)
    assert buffer.offer(timed(10, expires_ns=5), now_ns=4)
    assert buffer.action_for(10, now_ns=4) is not None
    assert buffer.action_for(10, now_ns=5) is None


def test_an_older_chunk_never_replaces_a_newer_one() -> None:
    buffer = ChunkBuffer()
    assert buffer.offer(timed(10), now_ns=0)
    assert not buffer.offer(timed(9), now_ns=0)
    assert not buffer.offer(timed(10), now_ns=0)
    assert buffer.offer(timed(11), now_ns=0)


def test_nothing_is_planned_after_clear() -> None:
    buffer = ChunkBuffer()
    buffer.offer(timed(10), now_ns=0)
    buffer.clear()
    assert buffer.action_for(10, now_ns=0) is None
