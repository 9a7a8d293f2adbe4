"""A task through a whole orchestrator: HTTP in, commands to a robot out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gen2act_contracts.video import decode_mp4
from gen2act_orchestrator.testing import FakeRobot
from gen2act_servicekit.testing import eventually

if TYPE_CHECKING:
    from conftest import Replica, World


async def test_a_task_runs_all_its_stages_in_order(replica: Replica, robot: FakeRobot) -> None:
    task_id = await replica.submit("make coffee", robot_id="robot-1", seed=7)
    task = await replica.until(task_id, "succeeded", "failed")

    assert task["status"] == "succeeded", task
    assert [stage["task"] for stage in task["stages"]] == [
        "push the mug to the coffee machine",
        "press the button of the coffee machine",
        "pull the mug away from the coffee machine",
    ]
    assert {stage["ended_by"] for stage in task["stages"]} == {"terminate"}
    verdict = {"success": True, "success_once": True}
    assert all(stage["verdict"] == verdict for stage in task["stages"])
    kinds = [command.WhichOneof("command") for command in robot.commands]
    assert kinds == ["reset_and_capture", "start_rollout", "end_rollout"] * 3
    resets = [command.reset_and_capture for command in robot.told("reset_and_capture")]
    assert [reset.new_scene for reset in resets] == [True, False, False]
    assert list(resets[0].activity_tasks) == [stage["task"] for stage in task["stages"]]


async def test_each_stage_is_imagined_from_the_scene_as_it_is_then(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    task_id = await replica.submit("open and close the drawer", seed=7, backend="special")
    await replica.until(task_id, "succeeded")

    first, second = world.videogen.requests
    assert (first.task, second.task) == ("open the drawer", "close the drawer")
    assert first.seed == 7 and second.seed != 7
    assert first.backend == "special"
    assert first.scene.simulator_state == b"state"
    assert len(world.policy.prepared) == 2
    starts = [command.start_rollout for command in robot.told("start_rollout")]
    assert [s.goal_id for s in starts] == [f"goal-{v[:8]}" for v in world.policy.prepared]
    assert starts[0].spec_hash == world.policy.spec.hash
    assert starts[0].stage_id != starts[1].stage_id


async def test_a_bad_verdict_does_not_fail_a_task(replica: Replica, robot: FakeRobot) -> None:
    robot.verdict = False
    task = await replica.until(await replica.submit(), "succeeded", "failed")
    assert task["status"] == "succeeded"
    assert task["stages"][0]["verdict"]["success"] is False


async def test_the_tick_budget_fails_the_task_with_a_reason(
    replica: Replica, robot: FakeRobot
) -> None:
    robot.ticks_to_done = None
    task_id = await replica.submit("open and close the drawer", max_ticks=5)
    task = await replica.until(task_id, "succeeded", "failed")
    assert task["status"] == "failed"
    assert task["failure"] == {"code": "TICK_BUDGET", "message": "stage ended by its tick budget"}
    assert task["stages"][0]["ended_by"] == "tick_budget"
    assert task["stages"][0]["ticks"] == 5
    assert task["stages"][0]["verdict"] is not None
    assert robot.told("start_rollout")[0].start_rollout.max_ticks == 5


async def test_the_tick_budget_may_let_the_next_stage_be_tried(world: World) -> None:
    world.limit(budget_fails_task=False)
    async with (
        world.replica() as replica,
        FakeRobot(replica.gateway, ticks_to_done=None).attach() as robot,
    ):
        task_id = await replica.submit("open and close the drawer", max_ticks=5)
        await replica.until_stage(task_id, 0, "done")
        robot.ticks_to_done = 1
        task = await replica.until(task_id, "succeeded", "failed")
    assert task["status"] == "failed"
    assert [stage["ended_by"] for stage in task["stages"]] == ["tick_budget", "terminate"]


async def test_pictures_of_a_stage_can_be_fetched(replica: Replica, robot: FakeRobot) -> None:
    task_id = await replica.submit("open the drawer")
    await replica.until(task_id, "succeeded")
    stage = f"/tasks/{task_id}/stages/0"

    for name in ("first.jpg", "last.jpg"):
        answer = await replica.http.get(f"{stage}/{name}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.content.startswith(b"\xff\xd8")
    answer = await replica.http.get(f"{stage}/rollout.mp4")
    assert answer.headers["Content-Type"] == "video/mp4"
    frames, fps = decode_mp4(answer.content)
    assert len(frames) == (await replica.task(task_id))["stages"][0]["ticks"]
    assert abs(fps - 3.0) < 0.01


async def test_the_human_video_is_the_one_the_video_service_stored(
    world: World, replica: Replica, robot: FakeRobot
) -> None:
    task_id = await replica.submit("open the drawer")
    task = await replica.until(task_id, "succeeded")
    url = f"/tasks/{task_id}/stages/0/human.mp4"
    expired = await replica.http.get(url)
    assert (expired.status_code, expired.json()["code"]) == (404, "VIDEO_EXPIRED")

    from gen2act_contracts.keys import video_key
    from gen2act_servicekit.redis import connect

    redis = connect(world.redis.url)
    await redis.set(video_key(task["stages"][0]["video"]["id"]), b"mp4 bytes")
    await redis.aclose()
    assert (await replica.http.get(url)).content == b"mp4 bytes"


async def test_events_tell_the_whole_story_in_order(replica: Replica, robot: FakeRobot) -> None:
    task_id = await replica.submit("open the drawer")
    await replica.until(task_id, "succeeded")
    events = await replica.events(task_id)
    types = [kind for _, kind, _ in events]
    story = [kind for kind in types if kind not in ("stage.tick", "video.progress")]
    assert story == [
        "task.queued",
        "task.planning",
        "task.waiting_for_robot",
        "task.running",
        "stage.resetting",
        "stage.imagining",
        "stage.preparing",
        "stage.rolling_out",
        "stage.done",
        "task.succeeded",
    ]
    assert "video.progress" in types
    ticks = [json.loads(data)["data"] for _, kind, data in events if kind == "stage.tick"]
    assert [tick["tick"] for tick in ticks] == list(range(len(ticks)))
    assert ticks[-1]["terminate_probability"] == 0.9
    done = next(json.loads(data) for _, kind, data in events if kind == "stage.done")
    assert done["stage"] == 0
    assert done["data"]["success"] is True


async def test_events_resume_after_the_last_one_seen(replica: Replica, robot: FakeRobot) -> None:
    task_id = await replica.submit("open the drawer")
    await replica.until(task_id, "succeeded")
    events = await replica.events(task_id)
    assert await replica.events(task_id, events[4][0]) == events[5:]
    assert await replica.events(task_id, events[-1][0]) == []


async def test_tasks_of_one_robot_run_one_after_the_other(
    replica: Replica, robot: FakeRobot
) -> None:
    ids = [await replica.submit("open the drawer") for _ in range(3)]
    for task_id in ids:
        await replica.until(task_id, "succeeded")
    order = [command.reset_and_capture.task_id for command in robot.told("reset_and_capture")]
    assert order == ids


async def test_a_task_for_nobody_waits_for_the_first_robot(replica: Replica) -> None:
    task_id = await replica.submit("open the drawer")
    task = await replica.until(task_id, "waiting_for_robot")
    assert task["robot_id"] is None
    async with FakeRobot(replica.gateway, "newcomer").attach():
        task = await replica.until(task_id, "succeeded")
    assert task["robot_id"] == "newcomer"


async def test_the_only_robot_need_not_be_named(replica: Replica, robot: FakeRobot) -> None:
    task = await replica.task(await replica.submit("open the drawer"))
    assert task["robot_id"] == "robot-1"


async def test_with_two_robots_one_must_be_named(replica: Replica, robot: FakeRobot) -> None:
    async with FakeRobot(replica.gateway, "robot-2").attach():
        answer = await replica.http.post("/tasks", json={"instruction": "open the drawer"})
    assert answer.status_code == 422
    assert "robot-1, robot-2" in answer.json()["detail"]


async def test_two_robots_work_side_by_side(replica: Replica, robot: FakeRobot) -> None:
    robot.ticking.clear()
    async with FakeRobot(replica.gateway, "robot-2").attach():
        held_up = await replica.submit("open the drawer", robot_id="robot-1")
        other = await replica.submit("open the drawer", robot_id="robot-2")
        await replica.until(other, "succeeded")
        assert (await replica.task(held_up))["status"] == "running"
        robot.ticking.set()
        await replica.until(held_up, "succeeded")


async def test_given_stages_are_not_planned(replica: Replica, robot: FakeRobot) -> None:
    task_id = await replica.submit("do something odd", stages=["frobnicate the drawer."])
    task = await replica.until(task_id, "succeeded")
    assert [stage["task"] for stage in task["stages"]] == ["frobnicate the drawer"]


async def test_the_listing_shows_all_tasks_newest_first_page_by_page(replica: Replica) -> None:
    ids = [await replica.submit("open the drawer") for _ in range(5)]
    found: list[str] = []
    cursor = None
    pages = 0
    while True:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await replica.http.get("/tasks", params=query)).json()
        found += [task["id"] for task in page["tasks"]]
        pages += 1
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == ids[::-1]
    assert pages == 3


async def test_repeating_a_request_under_its_key_makes_one_task(replica: Replica) -> None:
    body = {"instruction": "open the drawer"}
    headers = {"Idempotency-Key": "one"}
    first = await replica.http.post("/tasks", json=body, headers=headers)
    second = await replica.http.post("/tasks", json=body, headers=headers)
    assert first.status_code == second.status_code == 202
    assert first.headers["Location"] == second.headers["Location"] == f"/tasks/{first.json()['id']}"
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len((await replica.http.get("/tasks")).json()["tasks"]) == 1


async def test_repetitions_at_the_same_time_make_one_task(replica: Replica) -> None:
    import asyncio

    answers = await asyncio.gather(
        *[
            replica.http.post(
                "/tasks", json={"instruction": "open the drawer"}, headers={"Idempotency-Key": "k"}
            )
            for _ in range(8)
        ]
    )
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len((await replica.http.get("/tasks")).json()["tasks"]) == 1


async def test_a_key_used_for_another_request_is_refused(replica: Replica) -> None:
    headers = {"Idempotency-Key": "one"}
    await replica.http.post("/tasks", json={"instruction": "open the drawer"}, headers=headers)
    answer = await replica.http.post(
        "/tasks", json={"instruction": "close the drawer"}, headers=headers
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_MISMATCH")


async def test_the_store_takes_no_more_live_tasks_than_it_may(world: World) -> None:
    async with world.replica(max_live_tasks=2) as replica:
        for _ in range(2):
            await replica.submit("open the drawer")
        answer = await replica.http.post("/tasks", json={"instruction": "open the drawer"})
        assert (answer.status_code, answer.json()["code"]) == (503, "OVERLOADED")
        assert answer.headers["Retry-After"]


async def test_metrics_count_what_happened(replica: Replica, robot: FakeRobot) -> None:
    await replica.until(await replica.submit("open the drawer"), "succeeded")

    async def counted() -> bool:
        text = (await replica.http.get("/metrics")).text
        wanted = (
            'gen2act_tasks_over_total{code="",status="succeeded"} 1.0',
            'gen2act_stages_ended_total{ended_by="terminate"} 1.0',
            "gen2act_robots_attached 1.0",
        )
        return all(line in text for line in wanted)

    await eventually(counted)
