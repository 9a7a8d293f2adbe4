"""One paired episode in memory: what a robot did, and a human video of the same initial scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Episode:
    """T robot ticks and V human-video frames of one initial scene. Positions in the world [m].

    NaN stands for what is not known: landmarks and hand of a generated video, state of a robot that
    reports none.
    """

    task: str  # in words, e.g. "open the drawer"
    video: NDArray[Any]  # uint8 [V, S, S, 3], or features [V, K, W] of a frozen encoder
    hand_position_m: NDArray[np.float32]  # [V, 3]
    hand_closed: NDArray[np.float32]  # [V]
    # Hand (video) or end effector (robot), thing to act on, where it belongs: world frame [m].
    video_landmarks_m: NDArray[np.float32]  # [V, 3, 3]
    landmarks_m: NDArray[np.float32]  # [T, 3, 3]
    video_landmarks_uv: NDArray[np.float32]  # [V, 3, 2] the same in the picture, parts of its side
    landmarks_uv: NDArray[np.float32]  # [T, 3, 2]
    points: NDArray[np.float32]  # [P, 2] of the video's first frame, in [0, 1] of the side
    tracks: NDArray[np.float32]  # [P, V, 2], in [0, 1] of the side
    visible: NDArray[np.bool_]  # [P, V]
    images: NDArray[
        Any
    ]  # uint8 [T, S, S, 3] (or features), seen before the action of the same tick
    ee_position_m: NDArray[np.float32]  # [T, 3]
    gripper_opening: NDArray[np.float32]  # [T]
    actions_m: NDArray[np.float32]  # [T, 3]
    gripper_closed: NDArray[np.float32]  # [T]
    terminate: NDArray[np.float32]  # [T]
    # Tracks in the robot's own frames, where known: [P, T, 2] in [0, 1] of the side, and [P, T].
    robot_tracks: NDArray[np.float32] | None = None
    robot_visible: NDArray[np.bool_] | None = None


def jpeg_round_trip(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """As a served policy sees them: compressed once, at random quality."""
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        quality = int(rng.integers(75, 97))
        ok, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert ok and decoded is not None
        out[i] = decoded[..., ::-1]
    return out
