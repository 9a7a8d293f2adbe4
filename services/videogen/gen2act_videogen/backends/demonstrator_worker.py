"""Worker process of the `demonstrator` backend: the only place here that loads the simulator."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from gen2act_videogen.worker_protocol import ERROR, Header, WorkerEnd, WorkerFailure, serve


def generate(
    header: Header, state: bytes, progress: Callable[[float, str], None]
) -> tuple[Header, bytes]:
    """One human video from {"task", "seed", "frames", "image_size"} and a simulator state."""
    import gen2act_sim
    from gen2act_sim.human import human_video

    size = int(header["image_size"])
    try:
        world = gen2act_sim.World.from_state(state, image_size=size)
    except gen2act_sim.SimError as error:
        raise WorkerFailure(
            "BACKEND_REQUIRES", f"the simulator state cannot be read: {error}"
        ) from error
    scene = world.scene
    world.close()
    try:
        task = gen2act_sim.match_task(str(header["task"]), scene=scene)
    except gen2act_sim.UnknownTask as error:
        raise WorkerFailure("UNSUPPORTED_INSTRUCTION", _refusal(header["task"], scene)) from error
    progress(0.0, "rendering")
    try:
        video = human_video(
            state, task.id, int(header["seed"]), frames=int(header["frames"]), image_size=size
        )
    except gen2act_sim.SimError as error:
        raise WorkerFailure("GENERATION_FAILED", str(error)) from error
    progress(1.0, "rendering")
    return {"shape": list(video.frames.shape), "fps": video.fps}, video.frames.tobytes()


def _refusal(task: object, scene: str) -> str:
    import gen2act_sim

    known = ", ".join(
        f'"{gen2act_sim.TASKS[each].instruction}"' for each in gen2act_sim.SCENES[scene]
    )
    return f'the demonstrator cannot show "{task}" in scene {scene!r}; it can: {known}'


def warm_up() -> Iterator[str]:
    """Loads one scene after the other; the first shows whether rendering is possible at all."""
    import gen2act_sim

    for scene in gen2act_sim.SCENES:
        world = gen2act_sim.World(scene, 0)
        world.observe()
        world.close()
        yield scene


def main() -> int:
    """Serves until the parent closes the pipe."""
    end = WorkerEnd.from_stdio()
    try:
        scenes = warm_up()
        next(scenes)
    except ImportError as error:
        end.send(
            {
                "type": ERROR,
                "code": "BACKEND_REQUIRES",
                "message": f"the simulator is not installed (pip install gen2act-sim): {error}",
            }
        )
        return 1
    except Exception as error:
        # Renderers fail in many ways; the service shows the reason instead of an exit code.
        end.send({"type": ERROR, "code": "BACKEND_REQUIRES", "message": str(error)})
        return 1
    serve(end, generate, chores=scenes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
