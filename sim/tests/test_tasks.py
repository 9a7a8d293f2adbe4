"""Text to task."""

from __future__ import annotations

import pytest

from gen2act_sim import SCENES, TASKS, UnknownTask, match_task


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.id)
def test_every_phrase_finds_its_own_task(task) -> None:  # type: ignore[no-untyped-def]
    for phrase in (task.instruction, *task.paraphrases):
        assert match_task(phrase).id == task.id
        assert match_task(phrase.upper() + ".", task.scene).id == task.id


@pytest.mark.parametrize(
    ("prompt", "task"),
    [
        ("A person pushing the mug to the coffee machine, static camera", "coffee-push"),
        ("A person pressing the button of the coffee machine, static camera", "coffee-button"),
        ("A person pulling the mug away from the coffee machine, static camera", "coffee-pull"),
        ("A person putting the mug under the coffee machine, static camera", "coffee-push"),
        ("A person opening the drawer, static camera.", "drawer-open"),
        ("A person closing the drawer, static camera.", "drawer-close"),
        ("A person shutting the door, static camera", "door-close"),
        ("A person sliding the window open, static camera", "window-open"),
        ("A person turning off the tap, static camera", "faucet-close"),
        ("A person turning on the faucet, static camera", "faucet-open"),
        ("A person putting the basketball in the hoop, static camera", "basketball"),
        ("A person placing the block on the shelf, static camera", "shelf-place"),
        ("A person pressing the red button in front, static camera", "button-press"),
        ("A person pressing the red button on top, static camera", "button-press-topdown"),
        ("A person pressing the handle down, static camera", "handle-press"),
        ("A person driving the nail into the wood, static camera", "hammer"),
        ("A person putting the ring on the peg, static camera", "assembly"),
    ],
)
def test_prompts_in_ing_form_match(prompt: str, task: str) -> None:
    assert match_task(prompt).id == task
    assert match_task(prompt, TASKS[task].scene).id == task


@pytest.mark.parametrize(
    "text",
    ["", "open", "open the fridge", "throw the mug to the coffee machine", "日本語", "\x00" * 50],
)
def test_unknown_text_is_refused(text: str) -> None:
    with pytest.raises(UnknownTask):
        match_task(text)


def test_refusal_names_what_the_scene_knows() -> None:
    with pytest.raises(UnknownTask, match="open the drawer"):
        match_task("open the window", "drawer")
    with pytest.raises(UnknownTask, match=", ".join(SCENES)):
        match_task("open the window", "kitchen")
