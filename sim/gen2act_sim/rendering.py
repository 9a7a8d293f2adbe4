"""Square RGB pictures of a scene from the fixed camera.

EGL contexts belong to the thread that made them, so renderers are cached per thread, scene and
size; a `World` must be used by one thread (another thread may use another `World`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gen2act_sim.gl import missing, mujoco
from gen2act_sim.scenes import ROBOT_GROUP, load_model

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

LOOKAT_M = (0.0, 0.68, 0.12)
DISTANCE_M = 1.0
AZIMUTH_DEG = 150.0
ELEVATION_DEG = -33.0

Decorate = Callable[[Any], None]  # adds geoms to an MjvScene


class SceneRenderer:
    """Renders any `MjData` of one scene; cheap to call, dear to make (about 0.2 s)."""

    def __init__(self, scene: str, image_size: int) -> None:
        self.image_size = image_size
        self.model: Any = load_model(scene)  # for pictures only: its looks may be changed
        try:
            self._renderer = mujoco.Renderer(self.model, image_size, image_size, max_geom=400)
        except Exception as error:  # the GL stacks raise anything from ImportError to OSError
            raise missing(error) from error
        self.camera: Any = mujoco.MjvCamera()
        self.camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self.camera.lookat[:] = LOOKAT_M
        self.camera.distance = DISTANCE_M
        self.camera.azimuth = AZIMUTH_DEG
        self.camera.elevation = ELEVATION_DEG
        self._option = mujoco.MjvOption()
        # Goal markers are sites; a policy that sees them needs no video.
        self._option.sitegroup[:] = 0

    def _update(self, data: Any, robot: bool, decorate: Decorate | None) -> None:
        self._option.geomgroup[ROBOT_GROUP] = int(robot)
        self._renderer.update_scene(data, self.camera, self._option)
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        if decorate is not None:
            decorate(self._renderer.scene)

    def rgb(self, data: Any, *, robot: bool = True, decorate: Decorate | None = None) -> U8:
        """uint8 [S, S, 3]."""
        self._update(data, robot, decorate)
        return np.asarray(self._renderer.render(), dtype=np.uint8).copy()

    def depth(self, data: Any, *, robot: bool = True, decorate: Decorate | None = None) -> F64:
        """Distance along the optical axis [m], float [S, S]."""
        self._renderer.enable_depth_rendering()
        try:
            self._update(data, robot, decorate)
            return np.asarray(self._renderer.render(), dtype=np.float64).copy()
        finally:
            self._renderer.disable_depth_rendering()

    def geom_ids(self, data: Any, *, robot: bool = False) -> npt.NDArray[np.int32]:
        """Geom id at every pixel, -1 where there is none: int [S, S]."""
        self._renderer.enable_segmentation_rendering()
        try:
            self._update(data, robot, None)
            seg = np.asarray(self._renderer.render())
        finally:
            self._renderer.disable_segmentation_rendering()
        is_geom = seg[..., 1] == int(mujoco.mjtObj.mjOBJ_GEOM)
        return np.where(is_geom, seg[..., 0], -1).astype(np.int32)

    def close(self) -> None:
        self._renderer.close()


_LOCAL = threading.local()


def renderer_for(scene: str, image_size: int) -> SceneRenderer:
    """This thread's renderer of a scene (made on first use, then kept)."""
    cache: dict[tuple[str, int], SceneRenderer] | None = getattr(_LOCAL, "cache", None)
    if cache is None:
        cache = _LOCAL.cache = {}
    key = (scene, image_size)
    if key not in cache:
        cache[key] = SceneRenderer(scene, image_size)
    return cache[key]


def camera_axes() -> tuple[F64, F64, F64, F64]:
    """Camera position and unit right, up, forward vectors in the world frame."""
    azimuth, elevation = np.deg2rad(AZIMUTH_DEG), np.deg2rad(ELEVATION_DEG)
    forward = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    return np.array(LOOKAT_M) - DISTANCE_M * forward, right, up, forward


def focal_px(image_size: int) -> float:
    """Focal length of the free camera (MuJoCo's default vertical field of view, 45°) [px]."""
    return float(image_size / 2 / np.tan(np.deg2rad(45.0) / 2))


def project(points_m: F64, image_size: int) -> tuple[F64, F64]:
    """World points [..., 3] → pixels (x right, y down) [..., 2] and depths [m] [...]."""
    position, right, up, forward = camera_axes()
    relative = points_m - position
    depth = relative @ forward
    scale = focal_px(image_size) / np.maximum(depth, 1e-6)
    x = image_size / 2 + scale * (relative @ right) - 0.5
    y = image_size / 2 - scale * (relative @ up) - 0.5
    return np.stack([x, y], axis=-1), depth


def unproject(pixels: F64, depth_m: F64, image_size: int) -> F64:
    """Inverse of `project`: pixels [..., 2] and depths [...] → world points [..., 3]."""
    position, right, up, forward = camera_axes()
    across = (pixels[..., 0] + 0.5 - image_size / 2) / focal_px(image_size)
    along = -(pixels[..., 1] + 0.5 - image_size / 2) / focal_px(image_size)
    ray = across[..., None] * right + along[..., None] * up + forward
    points: F64 = position + ray * depth_m[..., None]
    return points
