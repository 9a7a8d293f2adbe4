"""Bundles that follow an instruction in place of a video."""

from pathlib import Path

import numpy as np
import pytest

from gen2act_contracts.errors import InvalidInput, InvalidInstruction
from gen2act_contracts.spec import ActionSpec
from gen2act_policy.local import LocalPolicy
from gen2act_policy.testing import write_random_bundle
from gen2act_policy.words import WORDS, word_ids

VIDEO = np.zeros((3, 32, 32, 3), np.uint8)


@pytest.fixture
def speaking(tmp_path: Path, spec: ActionSpec) -> LocalPolicy:
    write_random_bundle(tmp_path, spec, conditioning="language", name="speaking")
    return LocalPolicy(tmp_path, threads=1)


def test_words_have_the_numbers_that_bundles_were_trained_on() -> None:
    found = word_ids("Open the drawer!")
    assert found.tolist() == [933, 487, 514] + [0] * (WORDS - 3)


@pytest.mark.parametrize("text", ["", " ?! ", "go " * (WORDS + 1)])
def test_nothing_said_and_too_much_said_are_refused(text: str) -> None:
    with pytest.raises(InvalidInstruction, match=f"1 to {WORDS}"):
        word_ids(text)


def test_what_is_said_decides_what_is_done(speaking: LocalPolicy) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    actions = []
    for text in ("open the drawer", "Open the drawer", "close the drawer"):
        speaking.start(text)
        actions.append(speaking.act(image)[0].values)
    np.testing.assert_array_equal(actions[0], actions[1])
    assert (actions[0] != actions[2]).any()


def test_the_wrong_kind_of_goal_is_refused(
    speaking: LocalPolicy, tmp_path: Path, spec: ActionSpec
) -> None:
    with pytest.raises(InvalidInput, match="'speaking' follows an instruction, not a human video"):
        speaking.start(VIDEO)
    write_random_bundle(tmp_path / "seeing", spec, name="seeing")
    seeing = LocalPolicy(tmp_path / "seeing", threads=1)
    with pytest.raises(InvalidInput, match="'seeing' follows a human video, not an instruction"):
        seeing.start("open the drawer")
