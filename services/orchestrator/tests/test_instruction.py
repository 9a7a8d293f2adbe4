from __future__ import annotations

import pytest

from gen2act_contracts.errors import InvalidInstruction
from gen2act_orchestrator.domain.instruction import clean_instruction, clean_stage


def test_blanks_are_tidied_and_lines_kept() -> None:
    assert (
        clean_instruction("  open \t the drawer \n\n 2. close it ")
        == "open the drawer\n2. close it"
    )


@pytest.mark.parametrize("empty", ["", "   ", "\n\t", "...", "12 34"])
def test_an_instruction_without_words_is_refused_with_an_example(empty: str) -> None:
    with pytest.raises(InvalidInstruction, match="make coffee"):
        clean_instruction(empty)


def test_ten_kilobytes_are_refused_with_the_limit() -> None:
    with pytest.raises(InvalidInstruction, match=r"10240 characters; at most 1000"):
        clean_instruction("a" * 10_240)


def test_text_that_cannot_be_written_as_utf8_is_refused() -> None:
    with pytest.raises(InvalidInstruction, match="UTF-8"):
        clean_instruction("open the \ud800 drawer")


def test_control_characters_are_refused() -> None:
    with pytest.raises(InvalidInstruction, match=r"U\+0000"):
        clean_instruction("open\x00the drawer")


def test_other_scripts_are_welcome() -> None:
    assert clean_instruction("打开抽屉") == "打开抽屉"


def test_a_stage_is_one_line_without_a_full_stop() -> None:
    assert clean_stage("open\nthe drawer.") == "open the drawer"


def test_a_stage_is_shorter_than_an_instruction() -> None:
    with pytest.raises(InvalidInstruction, match="at most 200"):
        clean_stage("open " * 100)
