"""A person's hand as rounded cylinders, seen by a pinhole camera: geometry in, picture out.

What the hand is made of and how light falls on it is fitted to the simulator's drawings, not
written down here. Everything is plain tensor arithmetic, so that it exports with the networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen2act_sim.gl import mujoco
from gen2act_sim.hand import HandStyle, draw_hand
from gen2act_sim.rendering import camera_axes, focal_px, renderer_for
from gen2act_sim.scenes import load_model

PERSON = 11  # skin RGB, sleeve RGB, scale, forearm direction (3), bare forearm [m]
FAR_M = 50.0  # depth where no hand is

F64 = NDArray[np.float64]


def person_vector(style: HandStyle) -> F64:
    """[PERSON]"""
    return np.array([*style.skin, *style.sleeve, style.scale, *style.forearm, style.sleeve_start_m])


def people(count: int, seed: int = 0) -> Tensor:
    """Random persons, float [count, PERSON]."""
    rng = np.random.default_rng(seed)
    rows = np.stack([person_vector(HandStyle.draw(rng)) for _ in range(count)])
    return torch.from_numpy(rows).float()


def _terms(person: Tensor, opening: Tensor) -> Tensor:
    """What the hand's points are linear in, [N, 9], for persons [N, PERSON], openings [N]."""
    scale, forearm, sleeve = person[:, 6:7], person[:, 7:10], person[:, 10:11]
    one = torch.ones_like(scale)
    return torch.cat([one, scale, opening[:, None], forearm, sleeve * forearm], dim=1)


@dataclass(frozen=True)
class _Drawing:
    """One drawn hand; C capsules and one ellipsoid, relative to the tool centre [m]."""

    terms: F64  # [9]
    ends: F64  # [C, 2, 3]
    radii: F64  # [C]
    cloth: NDArray[np.bool_]  # [C] sleeve, not skin
    palm: F64  # [3] centre
    palm_size: F64  # [3] half axes
    palm_axes: F64  # [3, 3] columns


def _drawing(rng: np.random.Generator) -> _Drawing:
    scene = mujoco.MjvScene(load_model("drawer"), maxgeom=64)
    style, opening = HandStyle.draw(rng), float(rng.uniform())
    draw_hand(scene, np.zeros(3), opening, style)
    ends, radii, cloth, palms = [], [], [], []
    for geom in (scene.geoms[i] for i in range(scene.ngeom)):
        axes = np.array(geom.mat, dtype=np.float64).reshape(3, 3)
        centre, size = np.array(geom.pos, np.float64), np.array(geom.size, np.float64)
        if geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE:
            half = axes[:, 2] * size[2]
            ends.append((centre - half, centre + half))
            radii.append(size[0])
            cloth.append(bool(np.allclose(geom.rgba[:3], style.sleeve, atol=1e-6)))
        else:
            palms.append((centre, size, axes))
    person = torch.from_numpy(person_vector(style))[None]
    terms = _terms(person, torch.tensor([opening], dtype=torch.float64))[0].numpy()
    (palm, palm_size, palm_axes), *others = palms
    if others:
        raise ValueError("the simulator's hand has more than one ellipsoid")
    return _Drawing(
        terms, np.array(ends), np.array(radii), np.array(cloth), palm, palm_size, palm_axes
    )


def _fit(inputs: F64, outputs: F64, tolerance: float) -> F64:
    """Least squares that must be exact: inputs [n, i], outputs [n, ...] → [i, ...]."""
    flat = outputs.reshape(len(outputs), -1)
    solution = np.linalg.lstsq(inputs, flat, rcond=None)[0]
    error = float(np.abs(inputs @ solution - flat).max())
    if error > tolerance:
        raise ValueError(f"the simulator's hand is not linear as assumed: off by {error:.2g}")
    shaped = np.asarray(solution, np.float64).reshape(-1, *outputs.shape[1:])
    return shaped


def _harmonics(normal: Tensor) -> Tensor:
    """Light on a surface as a quadratic of its normal: [..., 3] → [..., 9]."""
    x, y, z = normal.unbind(-1)
    rows = [torch.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1]
    return torch.stack(rows, dim=-1)


class HandPainter(nn.Module):
    """Colour and depth of a hand, for the camera that the scenes are seen with."""

    ends: Tensor
    radii: Tensor
    cloth: Tensor
    palm: Tensor
    palm_size: Tensor
    palm_axes: Tensor
    light: Tensor
    gloss: Tensor
    eye: Tensor
    camera: Tensor
    rays: Tensor

    def __init__(self, image_size: int = 224) -> None:
        super().__init__()
        self.image_size = image_size
        drawings = [_drawing(np.random.default_rng(seed)) for seed in range(40)]
        terms = np.stack([d.terms for d in drawings])
        scales = terms[:, :2]
        constants = {
            "ends": _fit(terms, np.stack([d.ends for d in drawings]), 1e-5),
            "radii": _fit(scales, np.stack([d.radii for d in drawings]), 1e-5),
            "palm": _fit(terms, np.stack([d.palm for d in drawings]), 1e-5),
            "palm_size": _fit(scales, np.stack([d.palm_size for d in drawings]), 1e-5),
            "palm_axes": drawings[0].palm_axes,
            "cloth": drawings[0].cloth.astype(np.float64),
            "light": np.eye(9)[0],
            "gloss": np.zeros(9),
        }
        position, right, up, forward = camera_axes()
        constants["eye"] = position
        constants["camera"] = np.stack([right, -up, forward])
        grid = (np.arange(image_size) + 0.5 - image_size / 2) / focal_px(image_size)
        x, y = np.meshgrid(grid, grid)
        constants["rays"] = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(np.asarray(value)).float())

    def forward(self, tool_m: Tensor, opening: Tensor, person: Tensor) -> tuple[Tensor, Tensor]:
        """Picture of one hand.

        Args:
            tool_m: point between the finger tips, world frame [3].
            opening: 0 shut .. 1 open, [1].
            person: [PERSON].

        Returns:
            RGB in [0, 1] [3, S, S] and depth along the optical axis [S, S] [m], `FAR_M` where
            there is no hand.
        """
        depth, normal, cloth = self._trace(tool_m, opening, person)
        albedo = torch.where(cloth[:, None], person[3:6], person[0:3])
        harmonics = _harmonics(normal)
        colour = albedo * (harmonics @ self.light)[:, None] + (harmonics @ self.gloss)[:, None]
        size = self.image_size
        return colour.clamp(0, 1).T.reshape(3, size, size), depth.reshape(size, size)

    def _trace(
        self, tool_m: Tensor, opening: Tensor, person: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Depth [S*S], unit normal in the camera frame [S*S, 3], whether it is cloth [S*S]."""
        terms = _terms(person[None], opening)[0]
        scales = terms[:2]
        ends = torch.einsum("t,tced->ced", terms, self.ends) + (tool_m - self.eye)
        ends = ends @ self.camera.T
        start, axis = ends[:, 0], ends[:, 1] - ends[:, 0]
        radius = scales @ self.radii
        reach, facing = _hit_capsules(self.rays, start, axis, radius)
        nearest, which = reach.min(dim=1)

        centre = (terms @ self.palm + tool_m - self.eye) @ self.camera.T
        squash = (self.camera @ self.palm_axes) / (scales @ self.palm_size)
        palm = _hit_ellipsoid(self.rays, centre, squash)
        in_palm = palm < nearest
        depth = torch.minimum(palm, nearest)

        point = self.rays * depth[:, None]
        along = torch.gather(facing, 1, which[:, None])
        away = point - start[which] - along * axis[which]
        palm_away = ((point - centre) @ squash) @ squash.T
        normal = torch.where(in_palm[:, None], palm_away, away)
        normal = normal / normal.norm(dim=1, keepdim=True).clamp_min(1e-9)
        cloth = (self.cloth[which] > 0.5) & ~in_palm
        return depth, normal, cloth


def _hit_capsules(
    rays: Tensor, start: Tensor, axis: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor]:
    """Rays from the origin against capsules: reach [n, C] (`FAR_M`: missed), and how far along
    its axis each was hit, in [0, 1] [n, C]. Inigo Quilez' formulation."""
    squared = (axis * axis).sum(1)  # [C]
    start_axis = (start * axis).sum(1)
    ray_axis = rays @ axis.T  # [n, C]
    ray_start = rays @ start.T
    ray_ray = (rays * rays).sum(1, keepdim=True)
    a = squared * ray_ray - ray_axis**2
    b = start_axis * ray_axis - squared * ray_start
    c = squared * ((start * start).sum(1) - radius**2) - start_axis**2
    inside = b * b - a * c
    reach = (-b - inside.clamp_min(0).sqrt()) / a.clamp_min(1e-12)
    along = ((reach * ray_axis - start_axis) / squared).clamp(0, 1)
    # Beyond its ends the capsule is the sphere around the nearer end.
    end_ray = ray_start + along.round() * ray_axis
    ends = (start * start).sum(1) + along.round() * (2 * start_axis + squared)
    ball = end_ray**2 - ray_ray * (ends - radius**2)
    on_ball = (along <= 0) | (along >= 1)
    ball_reach = (end_ray - ball.clamp_min(0).sqrt()) / ray_ray
    hit = torch.where(on_ball, ball, inside) >= 0
    reach = torch.where(on_ball, ball_reach, reach)
    return torch.where(hit, reach, torch.full_like(reach, FAR_M)), along


def _hit_ellipsoid(rays: Tensor, centre: Tensor, squash: Tensor) -> Tensor:
    """Rays from the origin against the ellipsoid |(x - centre) squash| = 1: reach [n]."""
    direction, offset = rays @ squash, centre @ squash
    a = (direction * direction).sum(1)
    b = direction @ offset
    inside = b * b - a * ((offset * offset).sum() - 1)
    reach = (b - inside.clamp_min(0).sqrt()) / a
    return torch.where(inside >= 0, reach, torch.full_like(reach, FAR_M))


def fitted_hand_painter(image_size: int = 224, pictures: int = 24) -> HandPainter:
    """A painter whose light is fitted to hands that the simulator drew."""
    painter = HandPainter(image_size)
    rng = np.random.default_rng(7)
    rows, targets = [], []
    renderer = renderer_for("drawer", image_size)
    model = load_model("drawer")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)  # places the lights
    for _ in range(pictures):
        style, opening = HandStyle.draw(rng), float(rng.uniform())
        tool_m = rng.uniform((-0.2, 0.4, 0.25), (0.2, 0.8, 0.4))

        def decorate(
            scene: object, tool_m: F64 = tool_m, opening: float = opening, s: HandStyle = style
        ) -> None:
            draw_hand(scene, tool_m, opening, s)

        bare = renderer.rgb(data, robot=False).reshape(-1, 3) / 255.0
        drawn = renderer.rgb(data, robot=False, decorate=decorate).reshape(-1, 3) / 255.0
        person = torch.from_numpy(person_vector(style)).float()
        tool = torch.from_numpy(tool_m).float()
        depth, normal, cloth = painter._trace(tool, torch.tensor([opening]), person)
        hit = (depth < FAR_M).numpy() & (np.abs(drawn - bare).max(axis=1) > 0.02)
        hit &= drawn.max(axis=1) < 1.0  # a saturated colour says little about the light
        albedo = torch.where(cloth[:, None], person[3:6], person[0:3]).numpy()[hit]
        harmonics = _harmonics(normal).numpy()[hit]
        for channel in range(3):
            rows.append(
                np.concatenate([harmonics * albedo[:, channel : channel + 1], harmonics], 1)
            )
            targets.append(drawn[hit, channel])
    solution = np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=None)[0]
    painter.light.copy_(torch.from_numpy(solution[:9]))
    painter.gloss.copy_(torch.from_numpy(solution[9:]))
    return painter
