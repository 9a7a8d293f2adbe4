"""Closed-loop evaluation, with policies whose success is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest

from gen2act_contracts.errors import BundleInvalid, SpecMismatch
from gen2act_contracts.spec import ActionChunk
from gen2act_contracts.video import decode_mp4
from gen2act_learning.data.demos import FIRST_TRAINING_SEED
from gen2act_learning.evaluation import cli, looks, suites
from gen2act_learning.evaluation.episodes import EXPERT, Evaluator, Job, Setup
from gen2act_learning.evaluation.errors import (
    EpisodeFailed,
    NoVideo,
    ResultsMismatch,
    UnknownChoice,
)
from gen2act_learning.evaluation.failures import sample, write_failures
from gen2act_learning.evaluation.report import Report, as_json, as_markdown
from gen2act_learning.evaluation.runner import run_jobs
from gen2act_learning.evaluation.store import EpisodeResult, ResultFile, StageResult
from gen2act_learning.evaluation.suites import Case, build_suite
from gen2act_learning.evaluation.summary import controls, mean, rows, wilson_95
from gen2act_learning.evaluation.videos import (
    LOCAL,
    Demonstrator,
    OtherInstance,
    ShownVideo,
    Shuffled,
    other_seed,
    other_task,
)
from gen2act_policy.testing import small_spec, write_random_bundle
from gen2act_sim import TASKS, World

DRAWER = Case("drawer-close", ("drawer-close",))
CHAIN = Case("open and close the drawer", ("drawer-open", "drawer-close"))


class KnowsTheWorld:
    """Policy and video source in one: it acts as the expert of the video's task would, or not."""

    def __init__(self, *, skilful: bool = True, value: float = 0.0) -> None:
        self.skilful = skilful
        self.value = value  # of an unskilful action [m]
        self.world: World | None = None
        self.goal: np.ndarray | str = ""

    def video(self, world: World, task: str, seed: int) -> ShownVideo:
        self.world = world
        return ShownVideo(np.zeros((16, 32, 32, 3), np.uint8), task, "test")

    def start(self, goal: np.ndarray | str) -> None:
        self.goal = goal

    def act(
        self, image: np.ndarray, proprioception: Sequence[float] | None = None
    ) -> tuple[ActionChunk, float]:
        assert self.world is not None
        delta, closed = np.full(3, self.value), 0.0
        if self.skilful:
            delta, closed = self.world.expert_action()
        done = self.skilful and self.world.expert_done()
        values = np.asarray(delta, np.float32)[None]
        return ActionChunk(values, np.array([closed], np.float32)), float(done)


class NeverAVideo:
    def video(self, world: World, task: str, seed: int) -> ShownVideo:
        raise NoVideo("nothing to be seen")


def evaluator(policy: KnowsTheWorld, **options: int) -> Evaluator:
    return Evaluator(policy, lambda name: policy, **options)


def result(
    success: bool, *, video: str = "v", seed: int = 0, case: str = "drawer-close"
) -> EpisodeResult:
    stage = StageResult(case, success, success, success, 5, shown=case)
    return EpisodeResult(case, video, seed, (stage,))


# -- episodes ------------------------------------------------------------------------------------


def test_a_skilful_policy_succeeds_and_ends_by_itself():
    (stage,) = evaluator(KnowsTheWorld()).run(Job(DRAWER, "v", 100)).stages
    assert (stage.success, stage.success_once, stage.terminated) == (True, True, True)
    assert 0 < stage.ticks < 40


def test_an_idle_policy_fails_and_uses_up_its_ticks():
    (stage,) = evaluator(KnowsTheWorld(skilful=False), max_ticks=4).run(Job(DRAWER, "v", 1)).stages
    assert (stage.success, stage.success_once, stage.terminated) == (False, False, False)
    assert stage.ticks == 4


def test_the_stages_of_a_chain_follow_without_a_reset():
    stages = evaluator(KnowsTheWorld()).run(Job(CHAIN, "v", 100)).stages
    assert [stage.success for stage in stages] == [True, True]
    # Closing takes motion only if the drawer was left open by the stage before.
    assert stages[1].ticks > 3


def test_a_failed_stage_ends_its_chain():
    stages = evaluator(KnowsTheWorld(skilful=False), max_ticks=3).run(Job(CHAIN, "v", 1)).stages
    assert [stage.task for stage in stages] == ["drawer-open"]


def test_the_same_job_gives_the_same_result():
    job = Job(DRAWER, "v", 101)
    assert evaluator(KnowsTheWorld()).run(job) == evaluator(KnowsTheWorld()).run(job)


def test_the_expert_is_run_on_the_same_seed():
    (stage,) = evaluator(KnowsTheWorld(skilful=False)).run(Job(DRAWER, EXPERT, 100)).stages
    assert stage.success and stage.terminated and stage.ticks > 0


def test_without_a_video_the_episode_is_a_miss_with_its_reason():
    runs = Evaluator(KnowsTheWorld(), lambda name: NeverAVideo())
    (stage,) = runs.run(Job(DRAWER, "v", 100)).stages
    assert not stage.success and stage.reason == "nothing to be seen"


def test_an_action_that_is_not_finite_breaks_off_and_names_the_episode():
    broken = KnowsTheWorld(skilful=False, value=float("nan"))
    with pytest.raises(EpisodeFailed, match=r"drawer-close, seed 7, video v: .*finite"):
        evaluator(broken).run(Job(DRAWER, "v", 7))


# -- videos and looks ----------------------------------------------------------------------------


def test_the_control_shows_another_task_of_the_same_scene():
    assert other_task("drawer-open") == "drawer-close"
    for task, info in TASKS.items():
        assert other_task(task) != task
        if len([t for t in TASKS.values() if t.scene == info.scene]) > 1:
            assert TASKS[other_task(task)].scene == info.scene


def test_the_control_s_video_differs_and_starts_in_the_same_scene():
    world = World("drawer", 100)
    world.reset("drawer-close")
    before = world.get_state()
    right = Demonstrator().video(world, "drawer-close", 100)
    wrong = Shuffled().video(world, "drawer-close", 100)
    assert (right.task, wrong.task) == ("drawer-close", "drawer-open")
    assert right.frames.shape == wrong.frames.shape
    assert np.abs(right.frames[0].astype(int) - wrong.frames[0]).mean() < 8
    assert (right.frames[8] != wrong.frames[8]).any()
    assert world.get_state() == before


def test_another_instance_is_the_same_task_in_another_scene():
    world = World("drawer", 100)
    world.reset("drawer-close")
    before = world.get_state()
    here = Demonstrator().video(world, "drawer-close", 100)
    there, again = (OtherInstance().video(world, "drawer-close", 100) for _ in range(2))
    assert there.task == "drawer-close"
    assert np.abs(here.frames[0].astype(int) - there.frames[0]).mean() > 0.5
    np.testing.assert_array_equal(there.frames, again.frames)
    assert world.get_state() == before


def test_another_instance_is_never_the_evaluated_one_nor_a_training_one():
    seeds = range(FIRST_TRAINING_SEED)
    assert all(other_seed(seed) in seeds and other_seed(seed) != seed for seed in seeds)


def test_a_policy_without_a_video_is_told_the_instruction():
    policy = KnowsTheWorld(skilful=False)
    policy.world = World("drawer", 100)
    Evaluator(policy, lambda name: LOCAL[name](), max_ticks=1).run(Job(DRAWER, "none", 100))
    assert policy.goal == "close the drawer"


@pytest.mark.parametrize("name", [name for name in looks.LOOKS if name != "plain"])
def test_a_look_changes_pictures_by_seed_and_is_gone_afterwards(name: str):
    world = World("drawer", 100)
    plain = world.observe().image
    with looks.look(name, "drawer", 1):
        one = world.observe().image
    with looks.look(name, "drawer", 2):
        two = world.observe().image
    np.testing.assert_array_equal(world.observe().image, plain)
    for a, b in ((plain, one), (plain, two), (one, two)):
        assert np.abs(a.astype(int) - b).mean() > 1


def test_other_colours_leave_the_robot_alone():
    world = World("drawer", 100)
    renderer = looks.renderer_for("drawer", 224)
    robot = renderer.geom_ids(world.mj_data, robot=True) != renderer.geom_ids(world.mj_data)
    plain = world.observe().image
    with looks.look("colours", "drawer", 1):
        changed = (world.observe().image != plain).any(-1)
    assert changed.any() and robot.any()
    assert changed[robot].mean() < 0.05  # edges are blended


# -- suites --------------------------------------------------------------------------------------


def test_missing_tasks_are_named(monkeypatch):
    monkeypatch.delitem(suites.TASKS, "door-open")
    suite = build_suite("avdc11")
    assert "door-open" in suite.missing
    assert "door-open" not in [case.name for case in suite.cases]


@pytest.mark.parametrize(
    ("suite", "only", "says"),
    [
        ("avdc12", (), "did you mean 'avdc11'"),
        ("seen", ("drawer-opn",), "did you mean 'drawer-open'"),
        ("levels", ("OTG",), "manifest does not name the tasks"),
    ],
)
def test_unknown_suites_and_tasks_are_named(suite: str, only: tuple[str, ...], says: str):
    with pytest.raises(UnknownChoice, match=says):
        build_suite(suite, only=only)


def test_a_level_of_unseen_tasks_needs_tasks_that_were_held_out():
    trained = [task for task in suites.SEEN if task != "faucet-open"]
    suite = build_suite("levels", trained=trained)
    assert [case.name for case in suite.cases if case.level == "MTG"] == ["faucet-open"]
    assert "trained on" in suite.missing["OTG"]
    assert "MG: drawer-open" in [case.id for case in suite.cases]
    assert "MG: faucet-open" not in [case.id for case in suite.cases]


# -- results on disk -----------------------------------------------------------------------------


def test_results_survive_and_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "results.jsonl"
    first = ResultFile(path, {"bundle": "a"})
    first.add(result(True, seed=1))
    first.add(result(False, seed=2))
    path.write_bytes(path.read_bytes()[:-9])
    again = ResultFile(path, {"bundle": "a"})
    assert list(again.results.values()) == [result(True, seed=1)]
    again.add(result(False, seed=2))
    assert len(ResultFile(path, {"bundle": "a"}).results) == 2


def test_results_of_another_bundle_are_refused(tmp_path):
    ResultFile(tmp_path / "r.jsonl", {"bundle": "a"})
    with pytest.raises(ResultsMismatch, match="bundle: 'a' there, 'b' now"):
        ResultFile(tmp_path / "r.jsonl", {"bundle": "b"})


# -- numbers -------------------------------------------------------------------------------------


def test_the_interval_matches_a_published_value():
    # Newcombe 1998, method 3: 81 of 263.
    assert wilson_95(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_95(0, 0) == (0.0, 1.0)


def test_a_row_counts_what_the_simulator_said():
    found = {r.key: r for r in (result(True, seed=0), result(False, seed=1), result(True, seed=2))}
    (row,) = rows(found, [DRAWER], "v", range(3))
    assert (row.success, row.of, row.missed_seeds) == (2, 3, (1,))
    assert row.ticks == 5


def test_a_stage_that_was_never_begun_is_a_miss():
    lost = StageResult("drawer-open", False, True, True, 9, shown="drawer-open")
    found = {(CHAIN.id, "v", 4): EpisodeResult(CHAIN.id, "v", 4, (lost,))}
    first, second = rows(found, [CHAIN], "v", [4])
    assert (first.success, first.success_once, first.terminated) == (0, 1, 1)
    assert (second.success, second.of, second.missed_seeds) == (0, 1, (4,))
    assert mean([first, second]).cases == 1


@pytest.mark.parametrize(("won_when_shuffled", "ignores"), [(4, True), (3, True), (2, False)])
def test_a_policy_that_ignores_its_video_is_seen(won_when_shuffled: int, ignores: bool):
    right = [result(True, seed=seed) for seed in range(4)]
    wrong = [result(s < won_when_shuffled, video="shuffled", seed=s) for s in range(4)]
    found = {r.key: r for r in right + wrong}
    (control,) = controls({v: rows(found, [DRAWER], v, range(4)) for v in ("v", "shuffled")})
    assert control.with_video == 1.0
    assert control.with_shuffled == won_when_shuffled / 4
    assert control.ignores_video is ignores


def test_the_report_shows_misses_and_what_is_missing():
    found = {r.key: r for r in (result(True, seed=0), result(False, seed=1))}
    report = Report(
        suite="seen",
        arguments=["suite", "--only", "a b"],
        bundle_name="tiny",
        bundle_hash="f" * 64,
        simulator="e" * 64,
        seeds=range(2),
        max_ticks=40,
        rows={"v": rows(found, [DRAWER], "v", range(2))},
        missing={"hammer": "not there"},
    )
    data = json.loads(json.dumps(as_json(report)))
    text = as_markdown(report, data)
    assert data["videos"]["v"]["rows"][0]["missed_seeds"] == [1]
    assert "| drawer-close |  | 1 of 2 | 9% to 91% | 1 | 1 | 5.0 | 1 |" in text
    assert "gen2act-eval suite --only 'a b'" in text
    assert "- hammer: not there" in text


# -- failures ------------------------------------------------------------------------------------


def test_a_failure_becomes_a_video_of_both(tmp_path):
    job = Job(DRAWER, "v", 100)
    runs = evaluator(KnowsTheWorld(skilful=False), max_ticks=3)
    results = {job.key: runs.run(job)}
    chosen = sample(rows(results, [DRAWER], "v", [100]), [job], 1)
    (path,) = write_failures(chosen, runs, results, tmp_path)
    frames, _ = decode_mp4(path.read_bytes())
    assert frames.shape[2] == 2 * frames.shape[1] - 96  # two squares over a caption
    left, right = frames[0, :300, :320], frames[0, :300, 320:]
    assert left.max() < 20 and right.std() > 20  # the black test video, the scene


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path):
    write_random_bundle(tmp_path / "bundle", small_spec(uses_proprioception=True))
    return tmp_path / "bundle"


def command(bundle, out, *more: str) -> list[str]:
    return [
        *("suite", "--bundle", str(bundle), "--suite", "seen", "--only", "drawer-close"),
        *("--max-ticks", "2", "--failures", "0", "--out", str(out), *more),
    ]


def test_two_processes_find_what_one_finds_and_a_second_call_runs_nothing(bundle, tmp_path, capsys):
    out = tmp_path / "eval" / "out"
    line = command(bundle, out, "--episodes", "1", "--video", "demonstrator", "shuffled")
    assert cli.main([*line, "--workers", "2"]) == 0
    results = (out / "results.jsonl").read_text()
    assert (out / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert "drawer-close" in (out / "report.md").read_text()
    capsys.readouterr()
    assert cli.main(line) == 0
    assert "3 of 3 episodes are on disk already" in capsys.readouterr().out
    assert (out / "results.jsonl").read_text() == results

    job = Job(DRAWER, "demonstrator", 100)
    alone = Setup(bundle, max_ticks=2)().run(job)
    assert json.loads(json.dumps(asdict(alone))) in [json.loads(x) for x in results.splitlines()]


def test_nobody_answering_for_a_video_backend_says_what_to_start(bundle, tmp_path, capsys):
    more = ["--video", "learned", "--videogen", "127.0.0.1:1"]
    assert cli.main(command(bundle, tmp_path / "out", *more)) == 2
    assert "no videogen service at 127.0.0.1:1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bundle_of_language_is_judged_without_videos(tmp_path, capsys):
    spec = small_spec(uses_proprioception=True)
    write_random_bundle(tmp_path / "bundle", spec, conditioning="language")
    line = command(tmp_path / "bundle", tmp_path / "eval" / "out", "--episodes", "1")
    assert cli.main(line) == 2
    assert "--video none" in capsys.readouterr().err
    assert not (tmp_path / "eval").exists()
    assert cli.main([*line, "--video", "none"]) == 0
    assert "the instruction in words" in (tmp_path / "eval" / "out" / "report.md").read_text()


def test_a_bundle_of_videos_is_not_judged_without(bundle, tmp_path, capsys):
    assert cli.main(command(bundle, tmp_path / "out", "--video", "demonstrator", "none")) == 2
    assert "follows a video" in capsys.readouterr().err


def test_training_seeds_are_refused(bundle, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(command(bundle, tmp_path / "out", "--first-seed", "9995", "--episodes", "6"))
    assert "10000" in capsys.readouterr().err


def test_a_bundle_of_another_contract_version_is_named(bundle, tmp_path, capsys):
    manifest = bundle / "manifest.json"
    manifest.write_text(
        manifest.read_text().replace('"contract_version": 1', '"contract_version": 7')
    )
    assert cli.main(command(bundle, tmp_path / "out")) == 2
    assert "contract version 7" in capsys.readouterr().err


def test_a_training_run_is_no_bundle(tmp_path):
    (tmp_path / "last.pt").touch()
    with pytest.raises(BundleInvalid, match="gen2act-export --run"):
        cli.open_bundle(tmp_path)


def test_a_bundle_for_another_robot_is_named(tmp_path):
    spec = small_spec(uses_proprioception=True)
    turning = type(spec.dimensions[0])("yaw", "rad", -0.1, 0.1)
    wrong = type(spec)(**{**spec.__dict__, "dimensions": (*spec.dimensions, turning)})
    write_random_bundle(tmp_path, wrong)
    with pytest.raises(SpecMismatch, match="yaw"):
        cli.open_bundle(tmp_path)


def test_no_jobs_need_no_policy():
    def make() -> Evaluator:
        raise AssertionError("made without need")

    assert list(run_jobs([], make, workers=1)) == []
