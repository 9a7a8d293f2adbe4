import asyncio

from gen2act_robot.clock import FastClock, SystemClock


async def test_fast_time_stands_still_while_replies_come() -> None:
    clock = FastClock(patience_s=30.0)
    begin_ns = clock.now_ns()
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await clock.wait(event, begin_ns + 1)
    assert clock.now_ns() == begin_ns


async def test_fast_time_jumps_to_the_next_tick() -> None:
    clock = FastClock(patience_s=30.0)
    begin_ns = clock.now_ns()
    await clock.sleep_until(begin_ns + 10**15, asyncio.Event())
    assert clock.now_ns() == begin_ns + 10**15


async def test_fast_time_passes_by_the_patience_when_nothing_comes() -> None:
    clock = FastClock(patience_s=0.001)
    begin_ns = clock.now_ns()
    assert not await clock.wait(asyncio.Event(), begin_ns + 10)
    assert clock.now_ns() == begin_ns + 1_000_000
    assert clock.budget_ms(clock.now_ns()) == 1.0


async def test_a_fast_sleep_that_is_interrupted_does_not_jump() -> None:
    clock = FastClock()
    begin_ns = clock.now_ns()
    wake = asyncio.Event()
    wake.set()
    await clock.sleep_until(begin_ns + 10**15, wake)
    assert clock.now_ns() == begin_ns


async def test_system_time_reaches_the_given_instant() -> None:
    clock = SystemClock()
    until_ns = clock.now_ns() + 2_000_000
    assert not await clock.wait(asyncio.Event(), until_ns)
    assert clock.now_ns() >= until_ns
    assert clock.budget_ms(until_ns) == 0.0


async def test_system_time_wakes_for_the_event() -> None:
    clock = SystemClock()
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await clock.wait(event, clock.now_ns() + 3600 * 10**9)
