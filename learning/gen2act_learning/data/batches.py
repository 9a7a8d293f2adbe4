"""Batches of whole episodes: each frame is encoded once and serves all its time steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen2act_policy.bundle import Conditioning
from gen2act_policy.words import word_ids

from ..config import ModelConfig
from .dataset import EpisodeRef
from .episodes import Episode
from .errors import DatasetError

T = TypeVar("T")
Item = EpisodeRef | Episode


@dataclass(frozen=True)
class Landmarks:
    """What is to be found in B frames: hand or end effector, thing to act on, its place."""

    world: Tensor  # [B, 3, 3] position [m]
    picture: Tensor  # [B, 3, 2] x, y in parts of the picture's side
    closed: Tensor  # [B] hand or gripper, in [0, 1]

    def to(self, device: torch.device) -> Landmarks:
        return Landmarks(*(value.to(device) for value in self.__dict__.values()))


@dataclass(frozen=True)
class Batch:
    """E episodes, M = sum of their robot frames, S policy samples.

    Conditioned on language there are no video frames (V = 0), else there are no words (L = 0).
    """

    words: Tensor  # int64 [E, L] of the instruction
    video: Tensor  # uint8 [E, V, S, S, 3], or features [E, V, K, W]
    hand: Tensor  # [E, V, 4] position [m], closed
    points: Tensor  # [E, P, 2]
    tracks: Tensor  # [E, P, V, 2]
    visible: Tensor  # [E, P, V]
    frames: Tensor  # uint8 [M, S, S, 3], or features [M, K, W]
    state: Tensor  # [M, 4] end-effector position [m], gripper opening
    landmarks: Landmarks  # of all video frames, then of all robot frames
    contact: Tensor  # [E, 2, 3] end effector where the gripper first changes, and at the end [m]
    episode: Tensor  # [S] index into E
    history: Tensor  # [S, H] indices into M, oldest first
    robot_tracks: Tensor  # [S, P, H, 2] through each sample's history; NaN where unknown
    robot_visible: Tensor  # [S, P, H]
    actions: Tensor  # [S, h, D] [m]
    gripper: Tensor  # [S, h] closed
    terminate: Tensor  # [S]

    def to(self, device: torch.device) -> Batch:
        return Batch(**{key: value.to(device) for key, value in self.__dict__.items()})


@dataclass(frozen=True)
class FrameBatch:
    """Single frames of many episodes with what is to be located in them."""

    images: Tensor  # uint8 [B, S, S, 3]
    landmarks: Landmarks

    def to(self, device: torch.device) -> FrameBatch:
        return FrameBatch(self.images.to(device), self.landmarks.to(device))


def video_landmarks(episode: Episode, keep: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
    """Of the video's chosen frames, in the order of :class:`Landmarks`."""
    closed = episode.hand_closed
    return episode.video_landmarks_m[keep], episode.video_landmarks_uv[keep], closed[keep]


def robot_landmarks(episode: Episode, keep: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
    """Of the robot's chosen frames, in the order of :class:`Landmarks`."""
    closed = 1 - episode.gripper_opening
    return episode.landmarks_m[keep], episode.landmarks_uv[keep], closed[keep]


def join_landmarks(parts: list[tuple[NDArray[np.float32], ...]]) -> Landmarks:
    joined = (np.concatenate(column).astype(np.float32) for column in zip(*parts, strict=True))
    return Landmarks(*(torch.from_numpy(column) for column in joined))


def collate_frames(episodes: list[Episode], rng: np.random.Generator, each: int) -> FrameBatch:
    """``each`` random frames of the video and of the robot per episode."""
    images, landmarks = [], []
    for episode in episodes:
        sides = (episode.video, video_landmarks), (episode.images, robot_landmarks)
        for frames, labels in sides:
            chosen = rng.choice(len(frames), each, replace=False)
            images.append(np.asarray(frames[chosen]))
            landmarks.append(labels(episode, chosen))
    return FrameBatch(torch.from_numpy(np.concatenate(images)), join_landmarks(landmarks))


def pick_frames(count: int, wanted: int, rng: np.random.Generator | None) -> np.ndarray:
    """Sorted frame indices, first and last included; evenly spaced without ``rng``."""
    if rng is None or count <= wanted:
        return np.linspace(0, count - 1, wanted).round().astype(int)
    inner = rng.choice(np.arange(1, count - 1), wanted - 2, replace=False)
    return np.concatenate([[0], np.sort(inner), [count - 1]])


def shown_frames(
    count: int, wanted: int, conditioning: Conditioning, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Which of a video's frames the policy is shown."""
    if conditioning == "language":
        return np.zeros(0, np.int64)
    if conditioning == "goal_image":
        return np.full(wanted, count - 1)
    return pick_frames(count, wanted, rng)


def tracks_through(
    episode: Episode, ticks: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The robot's tracks at these ticks [H] -> [P, H, 2] and [P, H]; NaN where unknown."""
    if episode.robot_tracks is None or episode.robot_visible is None:
        shape = len(episode.points), len(ticks)
        return np.full((*shape, 2), np.nan, np.float32), np.zeros(shape, bool)
    return episode.robot_tracks[:, ticks], episode.robot_visible[:, ticks]


def collate(
    episodes: list[Episode],
    rng: np.random.Generator,
    cfg: ModelConfig,
    times: int,
    conditioning: Conditioning = "video",
    shown: list[Episode] | None = None,
) -> Batch:
    """Whole episodes with ``times`` policy samples each; see ``TrainConfig.conditioning``.

    Args:
        shown: for each episode the one whose human video is shown; default: itself.
    """
    names = "words video hand points tracks visible contact frames state"
    rows: dict[str, list[np.ndarray]] = {key: [] for key in names.split()}
    video_labels, robot_labels = [], []
    owner: list[int] = []
    history: list[np.ndarray] = []
    robot_tracks: list[tuple[np.ndarray, np.ndarray]] = []
    actions: list[np.ndarray] = []
    gripper: list[np.ndarray] = []
    terminate: list[float] = []
    offset = 0
    for index, (episode, other) in enumerate(zip(episodes, shown or episodes, strict=True)):
        keep = shown_frames(len(other.video), cfg.goal_frames, conditioning, rng)
        told = word_ids(episode.task) if conditioning == "language" else np.zeros(0, np.int64)
        rows["words"].append(told)
        rows["video"].append(np.asarray(other.video)[keep])
        rows["hand"].append(
            np.concatenate([other.hand_position_m, other.hand_closed[:, None]], 1)[keep]
        )
        video_labels.append(video_landmarks(other, keep))
        robot_labels.append(robot_landmarks(episode, np.arange(len(episode.images))))
        rows["points"].append(other.points)
        rows["tracks"].append(other.tracks[:, keep])
        rows["visible"].append(other.visible[:, keep])
        changes = np.flatnonzero(np.diff(other.gripper_closed)) + 1
        grasp = changes[0] if len(changes) else -1
        rows["contact"].append(other.ee_position_m[[grasp, -1]])
        rows["frames"].append(np.asarray(episode.images))
        rows["state"].append(
            np.concatenate([episode.ee_position_m, episode.gripper_opening[:, None]], 1)
        )
        length = len(episode.images)
        for t in rng.choice(length, min(times, length), replace=False):
            owner.append(index)
            past = np.clip(np.arange(t - cfg.history + 1, t + 1), 0, None)
            history.append(offset + past)
            robot_tracks.append(tracks_through(episode, past))
            ahead = np.clip(np.arange(t, t + cfg.chunk), None, length - 1)
            actions.append(episode.actions_m[ahead])
            gripper.append(episode.gripper_closed[ahead])
            terminate.append(float(episode.terminate[t]))
        offset += length
    stacked = {
        key: np.stack(value) for key, value in rows.items() if key not in ("frames", "state")
    }
    arrays = {
        **stacked,
        "frames": np.concatenate(rows["frames"]),
        "state": np.concatenate(rows["state"]).astype(np.float32),
        "episode": np.asarray(owner),
        "history": np.stack(history),
        "robot_tracks": np.stack([tracks for tracks, _ in robot_tracks]),
        "robot_visible": np.stack([visible for _, visible in robot_tracks]).astype(np.float32),
        "actions": np.stack(actions).astype(np.float32),
        "gripper": np.stack(gripper).astype(np.float32),
        "terminate": np.asarray(terminate, np.float32),
    }
    arrays["visible"] = arrays["visible"].astype(np.float32)
    return Batch(
        landmarks=join_landmarks(video_labels + robot_labels),
        **{key: torch.from_numpy(np.ascontiguousarray(v)) for key, v in arrays.items()},
    )


def read(item: Item) -> Episode:
    """An episode in memory as it is, one on disk loaded."""
    return item if isinstance(item, Episode) else item.load()


def other_instances(items: Sequence[Item], pool: Sequence[Item]) -> list[list[Item]]:
    """For each item the others of its task, that is of its instruction, in `pool`.

    Raises:
        DatasetError: names the tasks that have no other.
    """
    of_task: dict[str, list[Item]] = {}
    for item in pool:
        of_task.setdefault(item.task, []).append(item)
    others = [[it for it in of_task.get(item.task, ()) if it is not item] for item in items]
    alone = sorted({item.task for item, found in zip(items, others, strict=True) if not found})
    if alone:
        raise DatasetError(
            "conditioned on human_video, an episode is shown the video of another one of its task; "
            f"there is no other to train on of: {', '.join(map(repr, alone))}. Record more of "
            "them, or leave them out (gen2act-data describe --exclude)"
        )
    return others


@dataclass(frozen=True)
class Batches:
    """Makes batches of the items with given numbers."""

    items: Sequence[Item]
    cfg: ModelConfig
    times: int  # policy samples per episode
    conditioning: Conditioning = "video"
    others: Sequence[Sequence[Item]] | None = None  # whose video may be shown; None: its own

    def make(self, numbers: Iterable[int], rng: np.random.Generator) -> Batch:
        """Where others' videos are shown, each episode's is drawn anew every time."""
        numbers = list(numbers)
        episodes = [read(self.items[i]) for i in numbers]
        shown = None
        if self.others is not None:
            pools = [self.others[i] for i in numbers]
            shown = [read(pool[int(rng.integers(len(pool)))]) for pool in pools]
        return collate(episodes, rng, self.cfg, self.times, self.conditioning, shown)


def draws(
    count: int, each: int, rng: np.random.Generator, chances: NDArray[np.float64] | None
) -> Iterator[NDArray[np.int64]]:
    """Endless indices [each] below ``count``: all in turns, or each with its chance."""
    while True:
        if chances is not None:
            yield rng.choice(count, each, p=chances / chances.sum())
            continue
        order = rng.permutation(count)
        for i in range(0, count - each + 1, each):
            yield order[i : i + each]


def stream(
    count: int,
    make: Callable[[NDArray[np.int64], np.random.Generator], T],
    *,
    episodes: int,
    seed: int,
    chances: NDArray[np.float64] | None = None,
    ahead: int = 3,
) -> Iterator[T]:
    """Endless batches ``make(numbers below count, rng)``, prepared by one background thread.

    Args:
        count: of episodes to draw from.
        make: makes a batch of the episodes with these numbers.
        episodes: in a batch.
        chances: how likely each is drawn; default: all of them, in turns.
    """
    if count < episodes:
        raise ValueError(f"{count} episodes are fewer than the {episodes} of one step")
    ready: queue.Queue[T | BaseException] = queue.Queue(maxsize=ahead)

    def produce() -> None:
        rng = np.random.default_rng(seed)
        try:
            for drawn in draws(count, episodes, rng, chances):
                ready.put(make(drawn, rng))
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=produce, daemon=True).start()
    while True:
        item = ready.get()
        if isinstance(item, BaseException):
            raise item
        yield item
