"""What a scene looks like: light, colours, camera. Pictures change, physics does not.

Each look is drawn from the episode's seed, and holds for the human video and the robot alike.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from gen2act_sim.rendering import SceneRenderer, renderer_for
from gen2act_sim.scenes import ROBOT_GROUP

from .errors import UnknownChoice

# Bodies of the room; everything else that is not the robot is an object of the scene.
_ROOM = ("world", "tablelink", "RetainingWall", "mocap")


def _light(renderer: SceneRenderer, rng: np.random.Generator) -> None:
    """Brightness, colour and direction of the light; tint of table, floor and wall (MG)."""
    model = renderer.model
    tint = rng.uniform(0.88, 1.12, 3)
    model.vis.headlight.ambient[:] *= rng.uniform(0.65, 1.2) * tint
    model.vis.headlight.diffuse[:] *= rng.uniform(0.65, 1.2) * tint
    model.light_diffuse[:] *= rng.uniform(0.4, 1.5, (model.nlight, 1)) * tint
    turn = rng.uniform(-np.pi / 4, np.pi / 4)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    model.light_dir[:, :2] = model.light_dir[:, :2] @ spin.T
    for material in sorted({int(model.geom_matid[g]) for g in _geoms(model, room=True)} - {-1}):
        shade = rng.uniform(0.7, 1.0) * rng.uniform(0.85, 1.0, 3)
        model.mat_rgba[material, :3] *= shade


def _colours(renderer: SceneRenderer, rng: np.random.Generator) -> None:
    """Objects of other colours, one per material: instances that no training showed (G)."""
    model = renderer.model
    geoms = _geoms(model, room=False)
    for material in sorted({int(model.geom_matid[g]) for g in geoms} - {-1}):
        model.mat_rgba[material, :3] = _colour(rng)
    for geom in geoms:
        if model.geom_matid[geom] < 0 and model.geom_rgba[geom, 3] > 0:
            model.geom_rgba[geom, :3] = _colour(rng)


def _camera(renderer: SceneRenderer, rng: np.random.Generator) -> None:
    """The camera moved by up to about 6 cm (not one of the paper's levels)."""
    camera = renderer.camera
    camera.azimuth += rng.uniform(-3.0, 3.0)
    camera.elevation += rng.uniform(-2.0, 2.0)
    camera.distance *= rng.uniform(0.97, 1.03)


def _plain(renderer: SceneRenderer, rng: np.random.Generator) -> None:
    """As in training."""


LOOKS: Mapping[str, Callable[[SceneRenderer, np.random.Generator], None]] = {
    "plain": _plain,
    "light": _light,
    "colours": _colours,
    "camera": _camera,
}


@contextmanager
def look(name: str, scene: str, seed: int, image_size: int = 224) -> Iterator[None]:
    """Pictures of `scene` that this thread renders inside the block have this look.

    Raises:
        UnknownChoice: no such look.
    """
    if name not in LOOKS:
        raise UnknownChoice.of("look", name, LOOKS)
    renderer = renderer_for(scene, image_size)
    model, camera = renderer.model, renderer.camera
    arrays: list[Any] = [
        model.vis.headlight.ambient,
        model.vis.headlight.diffuse,
        model.light_diffuse,
        model.light_dir,
        model.mat_rgba,
        model.geom_rgba,
    ]
    saved = [np.array(array) for array in arrays]
    place = (camera.azimuth, camera.elevation, camera.distance)
    LOOKS[name](renderer, np.random.default_rng([seed, zlib.crc32(name.encode())]))
    try:
        yield
    finally:
        for array, before in zip(arrays, saved, strict=True):
            array[:] = before
        camera.azimuth, camera.elevation, camera.distance = place


def _geoms(model: Any, *, room: bool) -> list[int]:
    """Geoms of the room, or of the scene's objects; never the robot's."""
    found = []
    for geom in range(model.ngeom):
        if model.geom_group[geom] != ROBOT_GROUP:
            body = model.body(int(model.geom_bodyid[geom])).name
            if (body in _ROOM) == room:
                found.append(geom)
    return found


def _colour(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A saturated colour of middling brightness [3]."""
    hue, value = rng.uniform(0.0, 6.0), rng.uniform(0.45, 0.9)
    saturation = rng.uniform(0.35, 0.8)
    wheel = np.clip(np.abs((hue - np.array([0.0, 2.0, 4.0]) + 3.0) % 6.0 - 3.0), 1.0, 2.0)
    return value * (1.0 - saturation * (wheel - 1.0))
