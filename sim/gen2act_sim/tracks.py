"""Ground-truth point tracks: points of the first frame carried by the bodies they lie on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gen2act_sim.rendering import Decorate, SceneRenderer, project, unproject
from gen2act_sim.scenes import F64

# A point is hidden where something is drawn this much nearer than it [m].
_OCCLUSION_MARGIN_M = 0.012


@dataclass(frozen=True)
class Tracks:
    """Tracks of P points over N frames; pixels are (x right, y down)."""

    points0_px: npt.NDArray[np.float32]  # [P, 2] in the first frame
    tracks_px: npt.NDArray[np.float32]  # [P, N, 2]
    visible: npt.NDArray[np.bool_]  # [P, N] in the picture and not occluded


class Tracker:
    """Picks points of the scene without robot or hand, then follows them frame by frame."""

    def __init__(
        self, renderer: SceneRenderer, model: Any, data: Any, points: int, rng: np.random.Generator
    ) -> None:
        """Args: points: how many; half of them on movable objects where any are in view."""
        self._renderer = renderer
        size = renderer.image_size
        geoms = renderer.geom_ids(data, robot=False)
        depth = renderer.depth(data, robot=False)
        bodies = np.where(geoms >= 0, model.geom_bodyid[np.maximum(geoms, 0)], 0)
        moving = np.isin(bodies, np.flatnonzero(_is_movable(model)))
        chosen = [
            *_pick(np.argwhere(moving), points // 2, rng),
            *_pick(np.argwhere((geoms >= 0) & ~moving), points, rng),
        ][:points]
        rows = np.array(chosen, dtype=np.int64).reshape(-1, 2)
        pixels = rows[:, ::-1].astype(np.float64)
        self._bodies = bodies[rows[:, 0], rows[:, 1]]
        world = unproject(pixels, depth[rows[:, 0], rows[:, 1]], size)
        rotation = data.xmat[self._bodies].reshape(-1, 3, 3)
        offset = world - data.xpos[self._bodies]
        self._local = np.einsum("pji,pj->pi", rotation, offset)
        self._tracks: list[F64] = []
        self._visible: list[npt.NDArray[np.bool_]] = []

    def add(self, data: Any, *, robot: bool, decorate: Decorate | None = None) -> None:
        """Record the points in the present state, as rendered with the same arguments."""
        size = self._renderer.image_size
        rotation = data.xmat[self._bodies].reshape(-1, 3, 3)
        world = data.xpos[self._bodies] + np.einsum("pij,pj->pi", rotation, self._local)
        pixels, depth_m = project(world, size)
        drawn = self._renderer.depth(data, robot=robot, decorate=decorate)
        column, row = np.rint(pixels).astype(np.int64).T
        inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        front = drawn[np.clip(row, 0, size - 1), np.clip(column, 0, size - 1)]
        self._tracks.append(pixels)
        self._visible.append(inside & (front > depth_m - _OCCLUSION_MARGIN_M))

    def result(self) -> Tracks:
        """Everything added so far."""
        tracks = np.stack(self._tracks, axis=1).astype(np.float32)
        return Tracks(tracks[:, 0].copy(), tracks, np.stack(self._visible, axis=1))


def _is_movable(model: Any) -> npt.NDArray[np.bool_]:
    """Bodies that some joint moves [nbody]."""
    movable = np.zeros(model.nbody, dtype=bool)
    for body in range(1, model.nbody):
        movable[body] = model.body_jntnum[body] > 0 or movable[model.body_parentid[body]]
    return movable


def _pick(
    candidates: npt.NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    if len(candidates) == 0:
        return []
    return list(candidates[rng.integers(len(candidates), size=count)])
