"""Optical flow: pyramidal Lucas-Kanade, trusted only where it leads back to where it came from."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from .protocol import Tracks

F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

_WINDOW = (15, 15)  # [px]
_LEVELS = 2  # coarsest at 1/4
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
_ROUND_TRIP_PX = 1.5  # of a 224 px picture; larger, and the point counts as hidden
_PATCH = 9  # [px] of the picture around a point that must stay alike
_ALIKE = 0.7  # correlation of that patch with the first frame's
_FLAT = 2.0  # standard deviation of grey values [of 255] below which a patch has no texture
_STILL = 4.0  # mean difference of that patch, of 255, below which nothing happened there


class OpticalFlow:
    """Follows points from frame to frame; lost ones are looked for again from the first frame.

    A point stays where its surroundings are those of the first frame, pixel for pixel: most of a
    scene, and all that has no texture to follow. Elsewhere it is visible where (a) following it
    there and back ends within 1.5 px (of 224) of where it was and (b) its surroundings look as in
    the first frame. A hidden point is given the place where it was last seen.
    """

    def track(self, frames: NDArray[np.uint8], points: NDArray[np.float32]) -> Tracks:
        """As :class:`Tracker`."""
        side = frames.shape[1]
        grey = [_grey(frame) for frame in frames]
        tolerance_px = _ROUND_TRIP_PX * side / 224
        start = np.ascontiguousarray(points * side, dtype=np.float32)
        look = _patches(grey[0], start)
        place, seen = start.copy(), np.ones(len(start), bool)
        places, visible = [place], [seen]
        for before, now in pairwise(grey):
            still = _difference(look, _patches(now, place)) < _STILL
            forward, good = _follow(before, now, place, place, tolerance_px)
            good &= seen & ~still & _alike(look, _patches(now, forward))
            # Hidden until now: it may be back where it was seen last.
            again, found = _follow(grey[0], now, start, place, tolerance_px)
            found &= ~good & ~still & _alike(look, _patches(now, again))
            place = np.where(good[:, None], forward, np.where(found[:, None], again, place))
            seen = (still | good | found) & _inside(place, side)
            places.append(place)
            visible.append(seen)
        return Tracks((np.stack(places, 1) / side).astype(np.float32), np.stack(visible, 1))


def _grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY).astype(np.uint8)


def _follow(
    before: NDArray[np.uint8],
    now: NDArray[np.uint8],
    place: F32,
    guess: F32,
    tolerance_px: float,
) -> tuple[F32, Mask]:
    """Where the points [P, 2] went, and whether going back leads to where they came from."""
    if len(place) == 0:
        return place, np.zeros(0, bool)

    def flow(a: NDArray[np.uint8], b: NDArray[np.uint8], from_: F32, to: F32) -> tuple[F32, Mask]:
        moved, status, _ = cv2.calcOpticalFlowPyrLK(
            a,
            b,
            from_[:, None],
            to[:, None].copy(),
            winSize=_WINDOW,
            maxLevel=_LEVELS,
            criteria=_CRITERIA,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        return moved[:, 0].astype(np.float32), status[:, 0].astype(bool)

    place = np.ascontiguousarray(place, dtype=np.float32)
    there, ok = flow(before, now, place, guess)
    # Back from where it arrived, knowing no more than on the way there.
    back, ok_back = flow(now, before, there, there + place - guess)
    round_trip_px = np.linalg.norm(back - place, axis=1)
    return there, ok & ok_back & (round_trip_px < tolerance_px)


def _patches(grey: NDArray[np.uint8], place: F32) -> F32:
    """Surroundings of the points [P, n]."""
    found = [
        cv2.getRectSubPix(grey, (_PATCH, _PATCH), (float(x), float(y))).ravel() for x, y in place
    ]
    return np.array(found, np.float32).reshape(len(place), _PATCH * _PATCH)


def _difference(look: F32, now: F32) -> F32:
    return np.abs(look - now).mean(1)


def _alike(look: F32, now: F32) -> Mask:
    """Correlated, or flat: a patch without texture correlates with nothing."""
    a, b = (rows - rows.mean(1, keepdims=True) for rows in (look, now))
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    correlated = (a * b).sum(1) > _ALIKE * norms[0] * norms[1]
    return np.logical_or(norms[0] < _FLAT * _PATCH, correlated)


def _inside(place: F32, side: int) -> Mask:
    inside: Mask = np.all((place >= 0) & (place < side), axis=1)
    return inside
