"""Attaching: the stream is the lease."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from gen2act_contracts.errors import (
    ContractMismatch,
    InvalidInput,
    NonFiniteInput,
    RobotIdInUse,
    SpecMismatch,
    StoreUnavailable,
)
from gen2act_contracts.pb import robot as robot_pb
from gen2act_contracts.pb import robot_grpc
from gen2act_contracts.rpc import from_rpc_error
from gen2act_contracts.spec import ActionDimension
from gen2act_orchestrator.testing import FakeRobot, serving
from gen2act_servicekit.testing import eventually

if TYPE_CHECKING:
    from conftest import Replica, World


async def attached_ids(replica: Replica) -> list[str]:
    robots = (await replica.http.get("/robots")).json()["robots"]
    return [robot["id"] for robot in robots if robot["attached"]]


async def test_an_attached_robot_is_listed_with_what_it_said(
    replica: Replica, robot: FakeRobot
) -> None:
    listed = (await replica.http.get("/robots/robot-1")).json()
    assert listed["attached"] is True
    assert listed["driver"] == "fake"
    assert listed["frame"] == "world"
    assert [d["name"] for d in listed["dimensions"]] == ["dx", "dy", "dz"]
    assert listed["stopped"] is None
    assert robot.welcome is not None
    assert robot.welcome.heartbeat_s < robot.welcome.lease_timeout_s


async def test_a_robot_that_detached_is_remembered(replica: Replica) -> None:
    async with FakeRobot(replica.gateway).attach():
        pass

    async def is_gone() -> bool:
        return (await replica.http.get("/robots/robot-1")).json()["attached"] is False

    await eventually(is_gone)


async def test_a_second_client_with_the_same_id_is_refused(
    replica: Replica, robot: FakeRobot
) -> None:
    with pytest.raises(RobotIdInUse, match="robot-1"):
        await FakeRobot(replica.gateway).run()
    assert await attached_ids(replica) == ["robot-1"]
    await replica.until(await replica.submit("open the drawer"), "succeeded")


async def test_a_second_client_is_refused_by_another_replica_too(
    world: World, robot: FakeRobot
) -> None:
    async with world.replica() as other:
        with pytest.raises(RobotIdInUse):
            await FakeRobot(other.gateway).run()


async def test_the_id_is_free_once_the_first_client_has_left(replica: Replica) -> None:
    async with FakeRobot(replica.gateway).attach():
        pass
    second = FakeRobot(replica.gateway)

    async def is_free() -> bool:
        return await attached_ids(replica) == []

    await eventually(is_free)
    async with second.attach():
        assert await attached_ids(replica) == ["robot-1"]


async def test_the_same_client_may_come_back_at_once(replica: Replica, robot: FakeRobot) -> None:
    again = FakeRobot(replica.gateway, instance_id=robot.instance_id)
    async with again.attach():
        await replica.until(await replica.submit("open the drawer"), "succeeded")
        assert again.told("start_rollout") and not robot.told("start_rollout")


async def test_the_same_client_may_move_to_another_replica(world: World, robot: FakeRobot) -> None:
    async with world.replica() as other:
        again = FakeRobot(other.gateway, instance_id=robot.instance_id)
        async with again.attach():
            await other.until(await other.submit("open the drawer"), "succeeded")
            assert again.told("start_rollout")
            # the replica it left notices that the lease is not its own any more
            await eventually(lambda: not robot.attached.is_set(), what="the old stream to end")


async def test_a_silent_robot_loses_its_lease(world: World) -> None:
    async with world.replica(lease_s=0.5) as replica:
        mute = FakeRobot(replica.gateway, heartbeats=False)
        async with mute.attach():
            await eventually(lambda: not mute.attached.is_set(), what="the stream to end")
        async with FakeRobot(replica.gateway).attach():
            pass


async def test_a_robot_keeps_its_lease_for_longer_than_one_lease(world: World) -> None:
    async with world.replica(lease_s=0.5) as replica, FakeRobot(replica.gateway).attach():
        assert robot_is_kept(await _times(replica, 1.2))


async def _times(replica: Replica, seconds: float) -> list[bool]:
    loop = asyncio.get_running_loop()
    end, seen = loop.time() + seconds, []

    async def over() -> bool:
        seen.append(await attached_ids(replica) == ["robot-1"])
        return loop.time() >= end

    await eventually(over)
    return seen


def robot_is_kept(seen: list[bool]) -> bool:
    return len(seen) > 1 and all(seen)


async def test_another_contract_version_is_refused(replica: Replica) -> None:
    with pytest.raises(ContractMismatch, match="version 99"):
        await FakeRobot(replica.gateway, contract_version=99).run()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"frame": "tool"}, "frame"),
        ({"dimensions": [ActionDimension("dx", "m", -0.05, 0.05)]}, "dimensions"),
        ({"dimensions": [ActionDimension(n, "m", -0.01, 0.01) for n in ("dx", "dy", "dz")]}, "dx"),
        ({"dimensions": []}, "dimension"),
    ],
)
async def test_a_robot_that_does_not_fit_the_policy_is_refused(
    replica: Replica, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(SpecMismatch, match=named):
        await FakeRobot(replica.gateway, **changes).run()  # type: ignore[arg-type]
    assert (await replica.http.get("/robots")).json()["robots"] == []


async def test_a_policy_replaced_by_one_that_does_not_fit_moves_nothing(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    world.policy.spec = replace(world.policy.spec, frame="tool")
    task = await replica.until(await replica.submit("open the drawer"), "failed", "succeeded")
    assert task["failure"]["code"] == "SPEC_MISMATCH"
    assert "frame" in task["failure"]["message"]
    assert robot.commands == []


async def test_with_the_policy_away_a_robot_attaches_and_does_not_move(world: World) -> None:
    async with serving(world.policy) as (address, port):
        pass  # gone again
    async with (
        world.replica(policy=address) as replica,
        FakeRobot(replica.gateway).attach() as robot,
    ):
        task_id = await replica.submit("open the drawer")
        await replica.until(task_id, "running")
        assert robot.commands == []
        async with serving(world.policy, port):
            await replica.until(task_id, "succeeded")


@pytest.mark.parametrize("bad", ["", "a b", "x" * 65, "../x", "-a"])
async def test_a_bad_robot_id_is_refused(replica: Replica, bad: str) -> None:
    with pytest.raises(InvalidInput, match="robot id"):
        await FakeRobot(replica.gateway, robot_id=bad).run()


async def first_message(replica: Replica, message: robot_pb.RobotMessage) -> Exception:
    async with grpc.aio.insecure_channel(replica.gateway) as channel:
        call = robot_grpc.RobotGatewayStub(channel).Attach(iter([message]))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in call:
                pass
        return from_rpc_error(refused.value)


async def test_a_stream_that_does_not_begin_with_hello_is_refused(replica: Replica) -> None:
    heartbeat = robot_pb.RobotMessage(heartbeat=robot_pb.Heartbeat())
    assert isinstance(await first_message(replica, heartbeat), InvalidInput)


async def test_bounds_that_are_not_finite_are_refused(replica: Replica) -> None:
    hello = robot_pb.Hello(robot_id="r", contract_version=1, instance_id="i", frame="world")
    hello.dimensions.add(name="dx", unit="m", low=float("nan"), high=1.0)
    error = await first_message(replica, robot_pb.RobotMessage(hello=hello))
    assert isinstance(error, NonFiniteInput)


async def test_with_redis_down_a_robot_is_told_to_come_again(
    world: World, replica: Replica
) -> None:
    world.redis.kill()
    with pytest.raises(StoreUnavailable) as refused:
        await FakeRobot(replica.gateway).run()
    assert refused.value.retryable
    world.redis.start()
    async with FakeRobot(replica.gateway).attach():
        pass


async def test_a_robot_outlives_an_outage_of_redis(world: World) -> None:
    async with world.replica(lease_s=0.5) as replica, FakeRobot(replica.gateway).attach() as robot:
        world.redis.kill()
        loop = asyncio.get_running_loop()
        down_until = loop.time() + 1.0  # longer than the lease
        await eventually(lambda: loop.time() > down_until)
        world.redis.start()
        assert robot.attached.is_set()
        await replica.until(await replica.submit("open the drawer"), "succeeded")
