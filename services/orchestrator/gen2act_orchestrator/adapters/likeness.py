"""How much of a picture is different from another one."""

from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt

from gen2act_contracts import frames
from gen2act_contracts.pb import common
from gen2act_orchestrator.service.values import Scene

_SIDE = 112  # [px] that pictures are compared at: the noise of single pixels is averaged away
_DIFFERENT = 30  # of 255, in the channel that differs most


class PictureLikeness:
    """`Likeness` by counting the pixels that differ clearly."""

    async def changed(self, before: Scene, after: Scene) -> float:
        return await asyncio.to_thread(changed_share, before.frame.image, after.frame.image)


def changed_share(before: common.Image, after: common.Image) -> float:
    """Share of the picture, 0 to 1, that is clearly different. Raises InvalidImage."""
    difference = np.abs(_pixels(before) - _pixels(after)).max(axis=-1)
    return float((difference > _DIFFERENT).mean())


def _pixels(image: common.Image) -> npt.NDArray[np.int16]:
    return frames.resize(frames.decode(image), _SIDE).pixels.astype(np.int16)
