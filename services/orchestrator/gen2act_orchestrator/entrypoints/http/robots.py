"""Robots: which there are, and stopping them."""

from __future__ import annotations

from fastapi import APIRouter

from gen2act_orchestrator.entrypoints.http.deps import Deps, RobotId
from gen2act_orchestrator.entrypoints.http.schemas import (
    RobotsView,
    RobotView,
    StopRequest,
    StopView,
)

router = APIRouter(prefix="/robots", tags=["robots"])


@router.get("", response_model=RobotsView, summary="Every robot that has ever attached")
async def robots(deps: Deps) -> RobotsView:
    return RobotsView(robots=[RobotView.of(record) for record in await deps.robots.robots()])


@router.get("/{robot_id}", response_model=RobotView)
async def robot(robot_id: RobotId, deps: Deps) -> RobotView:
    return RobotView.of(await deps.robots.robot(robot_id))


@router.post("/{robot_id}/stop", response_model=StopView)
async def stop(robot_id: RobotId, deps: Deps, request: StopRequest | None = None) -> StopView:
    """Stops the robot at once. Its task fails, and it stays stopped until `resume`.

    This is no replacement for an emergency stop at the robot.
    """
    reason = (request or StopRequest()).reason
    recorded = await deps.fleet.stop(robot_id, reason)
    return StopView(id=robot_id, stopped=True, recorded=recorded)


@router.post("/{robot_id}/resume", response_model=RobotView)
async def resume(robot_id: RobotId, deps: Deps) -> RobotView:
    """Lets a stopped robot move again: it takes the next task of its queue."""
    await deps.fleet.release(robot_id)
    return RobotView.of(await deps.robots.robot(robot_id))
