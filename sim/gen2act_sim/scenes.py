"""Meta-World scene models: which file, which body varies, which joint is the fixture's.

World frame: x to the right as the robot sees it, y away from the robot, z up [m]; the table top
is z = 0.
"""

from __future__ import annotations

import copy
import importlib.util
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gen2act_sim.errors import UnknownTask
from gen2act_sim.gl import mujoco
from gen2act_sim.tasks import SCENES

F64 = npt.NDArray[np.float64]

ROBOT_GROUP = 2  # geom group no Meta-World model uses; lets the renderer hide the robot


@dataclass(frozen=True)
class SceneSpec:
    """What differs between scenes."""

    file: str
    fixture: str  # body whose position varies with the seed
    link: str | None = None  # body of the fixture whose joint tasks move (button, drawer, ...)
    loose: str | None = None  # body that lies about freely (mug, ball, ...)
    joint_range: tuple[float, float] | None = None  # overrides the model's range
    stiffness: float = 0.0  # spring of that joint [N/m]
    damping: float = 0.0  # added to that joint [N s/m]
    mocap_low: tuple[float, float, float] = (-0.5, 0.40, 0.05)
    mocap_high: tuple[float, float, float] = (0.5, 1.0, 0.5)


SPECS: dict[str, SceneSpec] = {
    # Pushing the mug home, the wrist touches the button above it. Meta-World's button stays in;
    # with a spring it comes out again and can be pressed in the next stage.
    "coffee": SceneSpec("sawyer_coffee.xml", "coffee_machine", "cmbutton", "obj", stiffness=30.0),
    # Pulled to its stop, Meta-World's drawer bounces back by over a centimetre.
    "drawer": SceneSpec("sawyer_drawer.xml", "drawer", "drawer_link", damping=8.0),
    # Range: from where Meta-World's door-close starts; further open its expert cannot reach in.
    "door": SceneSpec("sawyer_door_pull.xml", "door", "door_link", joint_range=(-1.5, 0.0)),
    "window": SceneSpec("sawyer_window_horizontal.xml", "window", "windowb_a"),
    # Meta-World's faucet turns both ways from its middle; a tap that can be closed needs a stop
    # where it is closed, so the range is cut to one side.
    "faucet": SceneSpec(
        "sawyer_faucet.xml",
        "faucetBase",
        "faucet_link2",
        joint_range=(-0.05, 1.57),
        mocap_low=(-0.5, 0.40, -0.15),
    ),
    "basketball": SceneSpec("sawyer_basketball.xml", "basket_goal", loose="bsktball"),
    "shelf": SceneSpec("sawyer_shelf_placing.xml", "shelf", loose="obj"),
    # Meta-World's buttons count as pressed when they are forced 1.3 cm past a soft stop at 6 cm.
    "button": SceneSpec("sawyer_button_press.xml", "box", "button", joint_range=(-0.08, 0.0)),
    "button-topdown": SceneSpec(
        "sawyer_button_press_topdown.xml", "box", "button", joint_range=(-0.08, 0.0)
    ),
    "handle": SceneSpec("sawyer_handle_press.xml", "box", "handle_link"),
    "hammer": SceneSpec("sawyer_hammer.xml", "box", "nail_link", "hammerbody"),
    "assembly": SceneSpec("sawyer_assembly_peg.xml", "peg", loose="RoundNut"),
}

_SOURCES: dict[str, Any] = {}
_LOCK = threading.Lock()


def asset_folder() -> Path:
    """Meta-World's model files, found without importing it (an import takes over a second)."""
    spec = importlib.util.find_spec("metaworld")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("metaworld is not installed: pip install metaworld==3.1.1")
    return Path(spec.submodule_search_locations[0]) / "assets" / "sawyer_xyz"


def load_model(scene: str) -> Any:
    """A fresh `MjModel` of a scene, set up for fast rendering and mocap control.

    Raises:
        UnknownTask: no such scene.
    """
    if scene not in SPECS:
        raise UnknownTask(f"unknown scene {scene!r}; known: {', '.join(SCENES)}")
    with _LOCK:
        if scene not in _SOURCES:
            _SOURCES[scene] = _prepare(scene)
        # Parsing meshes takes a quarter of a second, a copy a few milliseconds.
        return copy.copy(_SOURCES[scene])


def _prepare(scene: str) -> Any:
    spec = SPECS[scene]
    model = mujoco.MjModel.from_xml_path(str(asset_folder() / spec.file))
    # Meta-World's own weld: mocap and hand coincide, rotation weighs 5.
    model.eq_data[:] = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0])
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0
    model.vis.global_.offwidth = 640
    model.vis.global_.offheight = 640
    if spec.link is not None:
        joint = model.body(spec.link).jntadr[0]
        if spec.joint_range is not None:
            model.jnt_range[joint] = spec.joint_range
        model.jnt_stiffness[joint] += spec.stiffness
        model.dof_damping[model.jnt_dofadr[joint]] += spec.damping
    base = model.body("base").id
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        while body not in (0, base):
            body = int(model.body_parentid[body])
        if body == base and model.geom_group[geom] < ROBOT_GROUP:
            model.geom_group[geom] = ROBOT_GROUP
    if scene == "coffee":
        _weight_mug(model)
    if scene == "door":
        _part_door_from_frame(model)
    mujoco.mj_setConst(model, mujoco.MjData(model))  # what the solver derives from masses
    return model


def _weight_mug(model: Any) -> None:
    """Give the mug a heavy bottom: Meta-World's weighs 110 g and topples when it is brushed."""
    mug = model.body("mug").id
    mass_kg = 0.25
    model.body_inertia[mug] *= mass_kg / model.body_mass[mug]
    model.body_mass[mug] = mass_kg
    model.body_ipos[mug] = (0.0, 0.0, 0.012)


def _part_door_from_frame(model: Any) -> None:
    """The door's handle side collides with its own frame at 1.3 rad and is pushed back there,
    so an opened door would not stay open. The hinge's range is limit enough."""
    frame_bit = 2
    frame, door = model.body("doorlockB").id, model.body("door_link").id
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        if body == frame and model.geom_contype[geom]:
            model.geom_contype[geom] = frame_bit
            model.geom_conaffinity[geom] = 0
        elif body != door and model.geom_conaffinity[geom]:
            model.geom_conaffinity[geom] |= frame_bit
