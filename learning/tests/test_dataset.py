"""The LeRobot store: ours through our reader, lerobot's own through ours, and bad input."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gen2act_learning.data import layout
from gen2act_learning.data.dataset import Dataset
from gen2act_learning.data.description import (
    Description,
    read_description,
    write_description,
)
from gen2act_learning.data.episodes import Episode
from gen2act_learning.data.errors import DatasetError
from gen2act_learning.data.recorder import Recorder, prepare

LEROBOT_WRITTEN = Path(__file__).parent / "fixtures" / "lerobot_written"
DATA = "data/chunk-000/file-000.parquet"
THEIRS = Description(
    camera="observation.images.top",
    action=("ee_dx", "ee_dy", "ee_dz"),
    gripper="gripper<0.5",
    position=("x", "y", "z"),
    opening="grip",
)


@pytest.fixture
def blocks(make_episode):
    """Episodes whose pictures survive a video codec."""

    def make(seed: int) -> Episode:
        episode = make_episode(6 + seed, seed=seed, frames=16)
        rng = np.random.default_rng(seed)

        def pictures(count: int) -> np.ndarray:
            grey = rng.integers(0, 255, (count, 8, 8, 1), dtype=np.uint8)
            return np.repeat(grey.repeat(8, 1).repeat(8, 2), 3, 3)

        return replace(
            episode,
            task=f"task {seed % 2}",
            video=pictures(16),
            images=pictures(6 + seed),
            robot_tracks=rng.random((5, 6 + seed, 2), dtype=np.float32),
            robot_visible=rng.random((5, 6 + seed)) > 0.5,
        )

    return make


@pytest.fixture
def record(tmp_path, blocks):
    def make(count: int, *, part: int = 2) -> tuple[Path, list[Episode]]:
        root = tmp_path / "ours"
        episodes = [blocks(seed) for seed in range(count)]
        with Recorder(root, part_episodes=part) as recorder:
            for seed, episode in enumerate(episodes):
                recorder.add(prepare(episode, f"e{seed}"))
        return root, episodes

    return make


@pytest.fixture
def theirs(tmp_path) -> Path:
    """A copy of what lerobot wrote, described."""
    root = tmp_path / "theirs"
    shutil.copytree(LEROBOT_WRITTEN, root)
    write_description(root, THEIRS)
    return root


def test_every_field_of_an_episode_survives_the_store(record):
    root, episodes = record(5)
    dataset = Dataset(root, side=64)
    dataset.check()
    assert len(dataset.episodes()) == 5
    for ref, episode in zip(dataset.episodes(), episodes, strict=True):
        again = ref.load()
        for field in fields(Episode):
            want, got = getattr(episode, field.name), getattr(again, field.name)
            if field.name in ("video", "images"):
                assert np.abs(got.astype(int) - want).mean() < 3, field.name  # H.264
            else:
                np.testing.assert_array_equal(got, want, err_msg=field.name)


def test_pictures_are_decoded_once(record):
    root, _ = record(1)
    first = Dataset(root, side=64).load(0)
    shutil.rmtree(root / "videos")
    np.testing.assert_array_equal(Dataset(root, side=64).load(0).images, first.images)


def test_a_killed_recorder_leaves_a_valid_dataset_and_another_goes_on(tmp_path, blocks):
    root = tmp_path / "ours"
    recorder = Recorder(root, part_episodes=2)
    for seed in range(3):
        recorder.add(prepare(blocks(seed), f"e{seed}"))
    # As after a kill in the middle of the second part: its files are there, info.json is not.
    recorder._lock.close()
    (root / "data/chunk-000/file-001.parquet").write_bytes(b"half")
    Dataset(root, side=64).check()
    with Recorder(root, part_episodes=2) as again:
        assert again.sources == {"e0", "e1"}
        again.add(prepare(blocks(2), "e2"))
    dataset = Dataset(root, side=64)
    dataset.check()
    assert [row.source for row in dataset.rows] == ["e0", "e1", "e2"]
    assert [row.first for row in dataset.rows] == [0, 6, 13]
    np.testing.assert_array_equal(dataset.load(2).actions_m, blocks(2).actions_m)


def test_two_recorders_do_not_write_into_one_dataset(tmp_path):
    with (
        Recorder(tmp_path / "ours"),
        pytest.raises(DatasetError, match="another recorder"),
    ):
        Recorder(tmp_path / "ours")


def test_a_recorder_does_not_touch_other_people_s_dataset(tmp_path):
    shutil.copytree(LEROBOT_WRITTEN, tmp_path / "theirs")
    with pytest.raises(DatasetError, match="choose another --out"):
        Recorder(tmp_path / "theirs")


def test_a_human_video_stays_with_its_episode_when_episodes_are_renumbered(record):
    root, episodes = record(3, part=3)
    before = Dataset(root, side=64).load(2)
    # What deleting episode 0 with the lerobot tools does to the tables.
    table = pq.read_table(root / DATA)
    keep = table.filter(pa.compute.greater(table["episode_index"], 0))
    for name in ("index", "episode_index"):
        values = pa.compute.subtract(keep[name], keep[name][0])
        keep = keep.set_column(keep.column_names.index(name), name, values)
    pq.write_table(keep, root / DATA)
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()[1:]
    for row in rows:
        row["episode_index"] -= 1
        row["dataset_from_index"] -= len(episodes[0].images)
    pq.write_table(pa.Table.from_pylist(rows), path)
    change_info(root, total_episodes=2, total_frames=len(keep))
    np.testing.assert_array_equal(Dataset(root, side=64).load(1).video, before.video)


# ---- a dataset written by lerobot itself --------------------------------------------------------


def test_a_dataset_that_lerobot_wrote_is_cut_into_ticks(theirs):
    dataset = Dataset(theirs, side=96)
    dataset.check(videos=False)
    assert [row.length for row in dataset.rows] == [30, 41, 23]
    assert dataset.tasks[1] == "push the cube away"
    raw = pq.read_table(theirs / DATA).to_pylist()
    row = dataset.rows[1]
    assert list(dataset.ticks(row)) == [0, 5, 10, 15, 20, 25, 30, 35, 40]
    own = np.array([r["action"] for r in raw if r["episode_index"] == 1])
    np.testing.assert_allclose(dataset.actions(row)[2], own[10:15, :3].sum(0), rtol=1e-5)
    np.testing.assert_allclose(dataset.actions(row).sum(0), own[:, :3].sum(0), rtol=1e-5)


def test_its_pictures_are_of_the_described_camera_at_the_ticks(theirs):
    dataset = Dataset(theirs, side=96)
    for index, row in enumerate(dataset.rows):
        state = dataset._named(row, "observation.state", ("x", "y", "z"))
        (seen,) = dataset._pictures(row, np.array([10]))
        top, left = int(20 + 40 * state[10, 1]), int(30 + 60 * state[10, 0])
        square = seen[top + 2 : top + 10, left + 2 : left + 10].astype(int)
        assert np.abs(square - (255, 255, 0)).mean() < 25, index
        assert np.abs(seen[-5:, :20, 2].astype(int) - 60).mean() < 10  # the tint of `top`
    assert dataset.first_frame(0).shape == (96, 96, 3)


def test_commanded_poses_become_displacements(theirs):
    table = pq.read_table(theirs / DATA)
    states = np.array(table["observation.state"].to_pylist(), np.float32)
    deltas = np.array(table["action"].to_pylist(), np.float32)
    poses = states + deltas  # where each action leads
    poses[:, 3] = deltas[:, 3]
    replace_column(theirs, "action", poses)
    dataset = Dataset(theirs, replace(THEIRS, kind="absolute"))
    by_delta = Dataset(LEROBOT_WRITTEN, THEIRS)
    got, want = dataset.actions(dataset.rows[0]), by_delta.actions(by_delta.rows[0])
    np.testing.assert_allclose(got[1:], want[1:], atol=1e-5)


def test_closed_means_what_the_description_says(theirs):
    dataset = Dataset(theirs)
    read = dataset._robot_columns(dataset.rows[0], dataset.ticks(dataset.rows[0]))
    assert list(read["gripper_closed"]) == [0, 0, 0, 1, 1, 1]  # opening 1 in the first half
    assert list(read["gripper_opening"]) == [1, 1, 1, 0, 0, 0]
    assert list(read["terminate"]) == [0, 0, 0, 0, 1, 1]  # no feature for it: the last two ticks


# ---- bad input -----------------------------------------------------------------------------------


def change_info(root: Path, **values: object) -> None:
    path = root / layout.INFO_PATH
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def replace_column(root: Path, name: str, values: np.ndarray) -> None:
    table = pq.read_table(root / DATA)
    column = pa.array(values.tolist(), table.schema.field(name).type)
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, name, column), root / DATA)


def nan_action(root: Path) -> None:
    values = np.array(pq.read_table(root / DATA)["action"].to_pylist())
    values[30 + 7, 1] = np.nan
    replace_column(root, "action", values)


def wrong_fps(root: Path) -> None:
    change_info(root, fps=30)


def zero_length(root: Path) -> None:
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[1]["length"] = 0
    pq.write_table(pa.Table.from_pylist(rows), path)


def lost_rows(root: Path) -> None:
    table = pq.read_table(root / DATA)
    pq.write_table(table.filter(pa.compute.not_equal(table["index"], 33)), root / DATA)


def lost_video(root: Path) -> None:
    (root / "videos/observation.images.top/chunk-000/file-000.mp4").unlink()


def short_video(root: Path) -> None:
    path = root / "videos/observation.images.top/chunk-000/file-000.mp4"
    whole = path.with_name("whole.mp4")
    path.rename(whole)
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for count, packet in enumerate(source.demux(source.streams.video[0])):
            if count < 80 and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    whole.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nan_action, ["episode 1", "'ee_dy' is nan in frame 7", "--exclude 1"]),
        (wrong_fps, ["0.0667 s", "says 30 frames/s", "fps is wrong"]),
        (zero_length, ["episode 1: has no frames", "--exclude 1"]),
        (lost_rows, ["episode 1: 1 of its 41 frames are missing in data/"]),
        (lost_video, ["file-000.mp4 is missing", "copy the dataset again"]),
        (short_video, ["has 80 frames, its episodes 94"]),
    ],
)
def test_what_would_spoil_training_is_named_before_it(theirs, spoil, words):
    spoil(theirs)
    with pytest.raises(DatasetError) as caught:
        Dataset(theirs).check(videos=False)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("spoil", [nan_action, zero_length, lost_rows])
def test_a_spoilt_episode_can_be_left_out(theirs, spoil):
    spoil(theirs)
    dataset = Dataset(theirs, replace(THEIRS, exclude=(1,)))
    dataset.check(videos=False)
    assert [ref.index for ref in dataset.episodes()] == [0, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"camera": "observation.images.tpo"}, "did you mean 'observation.images.top'"),
        ({"action": ("dx", "dy", "dz")}, "unknown action 'dx', the dataset has ['ee_dx'"),
        ({"gripper": "grippr>0.5"}, "did you mean 'gripper'"),
        ({"gripper": "gripper"}, "gripper>0.5"),
        ({"position": ("x", "y", "zz")}, "unknown state 'zz'"),
        ({"opening": ""}, "together"),
        ({"terminate": "done"}, "unknown feature 'done'"),
        ({"kind": "relative"}, "'delta', 'absolute'"),
        ({"units": ("m", "m", "inch")}, "inch"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(theirs, change, words):
    with pytest.raises(DatasetError) as caught:
        Dataset(theirs, replace(THEIRS, **change))
    assert words in str(caught.value)


@pytest.mark.parametrize("fps", [2, 4, 7])
def test_a_rate_that_gives_no_3_hz_is_refused(theirs, fps):
    change_info(theirs, fps=fps)
    with pytest.raises(DatasetError, match="multiple of 3"):
        Dataset(theirs)


def test_an_older_layout_is_told_how_to_be_converted(theirs):
    change_info(theirs, codebase_version="v2.1")
    with pytest.raises(DatasetError, match="convert_dataset_v21_to_v30"):
        Dataset(theirs)


def test_no_dataset_says_how_to_make_one(tmp_path):
    with pytest.raises(DatasetError, match="gen2act-data demos"):
        Dataset(tmp_path)


def test_no_description_says_how_to_make_one(theirs):
    (theirs / "gen2act.json").unlink()
    with pytest.raises(DatasetError, match="gen2act-data describe"):
        Dataset(theirs)


def test_missing_human_videos_name_the_command_that_makes_them(theirs):
    with pytest.raises(DatasetError, match="gen2act-data imagine"):
        Dataset(theirs).check()


def test_a_description_survives_the_disk(theirs):
    wanted = replace(THEIRS, bounds=((-0.1, 0.1),) * 3, exclude=(2,))
    write_description(theirs, wanted)
    assert read_description(theirs) == wanted
