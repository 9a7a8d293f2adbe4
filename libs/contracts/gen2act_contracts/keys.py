"""Redis keys that more than one service uses, and how long their values live.

A service's private keys stay in the service, below the same prefix.
"""

from __future__ import annotations

PREFIX = "gen2act:"

# A stage needs its video for minutes; a day leaves room for pauses and for looking at results.
VIDEO_TTL_S = 24 * 3600
# Goal tokens can be rebuilt from the video, so they need not outlive it.
GOAL_TTL_S = 24 * 3600


def video_key(video_id: str) -> str:
    """MP4 bytes of a video; the id is the sha256 (hex) of the bytes."""
    return f"{PREFIX}video:{video_id}"


def video_meta_key(video_id: str) -> str:
    """JSON provenance of a video: prompt, first-frame hash, seed, backend, model, seconds."""
    return f"{PREFIX}video:{video_id}:meta"


def goal_key(video_id: str, model_hash: str) -> str:
    """Goal tokens of a video under one model."""
    return f"{PREFIX}goal:{video_id}:{model_hash}"
