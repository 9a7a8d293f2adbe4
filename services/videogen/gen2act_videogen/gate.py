"""The sanity gate: what a video must show before a robot may move after it.

Three measures on 28x28 thumbnails, where codec noise, texture and a model's blur average out.
Measured with the simulator (165 demonstrator videos of 11 tasks, 36 chained stages; another scene:
all pairs of 12 scenes, 3 seeds each; the robot's arm is in the scene image and not in the video):

    share of the first frame that differs from the scene        min     median  max
      this scene, first stage                                   0.055   0.055   0.055
      this scene, after earlier stages and a reset              0.054   0.055   0.057
      this scene, video blurred, brightened or noisy            0.055   0.055   0.056
      this scene, video shifted by 2 px of 224                  0.073   0.085   0.102
      same furniture elsewhere (another seed)                   0.055   0.117   0.249
      another scene                                             0.131   0.242   0.459
      another scene, both with small things only                0.084   0.092   0.096
      uniform grey                                              0.393   0.423   0.556
    share of the picture that moves                             0.127   0.277   0.478

So another scene is refused unless both are an empty table but for small things (a tap, a ball and
hoop, a ring and peg); the same furniture at another place only if it is far enough away to matter.
No threshold on so small a picture can improve that without refusing good videos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict

from gen2act_contracts.errors import VideoRejected

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

THUMBNAIL_PX = 28


@dataclass(frozen=True)
class GateBounds:
    """What passes. Differences are of 8-bit levels, per cell of the thumbnail."""

    min_frames: int = 16  # the policy samples 16
    max_first_frame_difference: float = 0.11  # share of cells, between 0.057 and 0.131 above
    differs_by: float = 24.0  # a cell differs from this level on, in any colour
    min_motion: float = 0.02  # share of cells; a hand alone moves 0.12 and more
    moves_by: float = 16.0  # a cell moves if any frame is so far from its median over time


DEFAULT_BOUNDS = GateBounds()


class GateReport(BaseModel):
    """What was measured; part of the stored provenance."""

    model_config = ConfigDict(frozen=True)

    frames: int
    first_frame_difference: float  # share of cells in [0, 1]
    first_frame_enforced: bool  # False: reported only
    motion: float  # share of cells in [0, 1]


def check(
    frames: U8, scene: U8, starts_at_scene: bool, bounds: GateBounds = DEFAULT_BOUNDS
) -> GateReport:
    """Measures a video and refuses one that no robot should follow.

    Args:
        frames: uint8 [N, S, S, 3] RGB.
        scene: the scene now, uint8 [S', S', 3] RGB of any square size.
        starts_at_scene: whether the first frame must resemble the scene.
        bounds: what passes.

    Raises:
        VideoRejected: naming the measured value and the bound.
    """
    _check_shape(frames, bounds)
    difference = first_frame_difference(frames[0], scene, bounds.differs_by)
    if starts_at_scene and difference > bounds.max_first_frame_difference:
        raise _rejected(
            f"its first frame does not resemble the scene: {difference:.3f} of it differs, "
            f"at most {bounds.max_first_frame_difference:g} may",
            "first_frame_difference",
            difference,
            bounds.max_first_frame_difference,
        )
    moving = motion(frames, bounds.moves_by)
    if moving < bounds.min_motion:
        raise _rejected(
            f"it is static: {moving:.3f} of the picture moves, at least {bounds.min_motion:g} must",
            "motion",
            moving,
            bounds.min_motion,
        )
    return GateReport(
        frames=len(frames),
        first_frame_difference=round(difference, 4),
        first_frame_enforced=starts_at_scene,
        motion=round(moving, 4),
    )


def first_frame_difference(first: U8, scene: U8, differs_by: float) -> float:
    """Share of thumbnail cells in [0, 1] that differ, whatever the overall colour cast."""
    delta = _thumbnail(first) - _thumbnail(scene)
    delta -= np.median(delta, axis=(0, 1))
    return float((np.abs(delta).max(axis=-1) > differs_by).mean())


def motion(frames: U8, moves_by: float) -> float:
    """Share of thumbnail cells in [0, 1] that ever leave their usual colour."""
    small = np.stack([_thumbnail(frame) for frame in frames])
    delta = small - np.median(small, axis=0)
    # A flicker of the whole picture is no motion.
    delta -= np.median(delta, axis=(1, 2), keepdims=True)
    return float((np.abs(delta).max(axis=(0, 3)) > moves_by).mean())


def _check_shape(frames: U8, bounds: GateBounds) -> None:
    shape = "x".join(str(side) for side in frames.shape)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise VideoRejected(
            f"the video was refused: its frames are {frames.dtype} {shape}, not uint8 NxSxSx3",
            measure="shape",
            measured=shape,
        )
    if len(frames) < bounds.min_frames:
        raise _rejected(
            f"it has {len(frames)} frames, at least {bounds.min_frames} are needed",
            "frames",
            len(frames),
            bounds.min_frames,
        )
    height, width = frames.shape[1:3]
    if height != width:
        raise _rejected(
            f"its frames are {width}x{height} px, not square", "shape", f"{width}x{height}", "1:1"
        )


def _rejected(
    reason: str, measure: str, measured: float | str, bound: float | str
) -> VideoRejected:
    def text(value: float | str) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return VideoRejected(
        f"the video was refused: {reason}",
        measure=measure,
        measured=text(measured),
        bound=text(bound),
    )


def _thumbnail(picture: U8) -> F32:
    """Mean colours of a grid of cells, float32 [28, 28, 3]."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = Image.fromarray(picture).resize(size, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)
