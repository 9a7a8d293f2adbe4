import numpy as np
import pytest

from gen2act_learning.config import ModelConfig
from gen2act_learning.data.episodes import Episode


@pytest.fixture
def small() -> ModelConfig:
    """A model that is quick to build and run."""
    return ModelConfig(
        image_size=64,
        width=32,
        heads=2,
        stem_channels=(8, 8, 16),
        vit_layers=1,
        tokens=8,
        goal_frames=4,
        history=4,
        bound_tokens=4,
        track_layers=1,
        track_heads=2,
    )


@pytest.fixture
def make_episode():
    def make(ticks: int = 6, *, side: int = 64, frames: int = 7, seed: int = 0) -> Episode:
        rng = np.random.default_rng(seed)
        actions = rng.uniform(-0.05, 0.05, (ticks, 3)).astype(np.float32)
        return Episode(
            task="coffee-push",
            video=rng.integers(0, 255, (frames, side, side, 3), dtype=np.uint8),
            hand_position_m=rng.random((frames, 3), dtype=np.float32),
            hand_closed=np.zeros(frames, np.float32),
            video_landmarks_m=rng.random((frames, 3, 3), dtype=np.float32),
            video_landmarks_uv=rng.random((frames, 3, 2), dtype=np.float32),
            landmarks_m=rng.random((ticks, 3, 3), dtype=np.float32),
            landmarks_uv=rng.random((ticks, 3, 2), dtype=np.float32),
            points=rng.random((5, 2), dtype=np.float32),
            tracks=rng.random((5, frames, 2), dtype=np.float32),
            visible=np.ones((5, frames), bool),
            images=rng.integers(0, 255, (ticks, side, side, 3), dtype=np.uint8),
            ee_position_m=rng.random((ticks, 3), dtype=np.float32),
            gripper_opening=np.ones(ticks, np.float32),
            actions_m=actions,
            gripper_closed=np.zeros(ticks, np.float32),
            terminate=(np.arange(ticks) >= ticks - 2).astype(np.float32),
        )

    return make
