"""Imperative → "A person <task>, static camera"."""

from __future__ import annotations

import pytest

from gen2act_contracts.errors import InvalidInstruction
from gen2act_videogen.prompt import MAX_TASK_CHARS, video_prompt


@pytest.mark.parametrize(
    ("task", "action"),
    [
        ("open the drawer", "opening the drawer"),
        ("push the mug to the coffee machine", "pushing the mug to the coffee machine"),
        ("pull the mug away", "pulling the mug away"),
        ("press the button", "pressing the button"),
        ("put the mug down", "putting the mug down"),
        ("close the door", "closing the door"),
        ("shut the door", "shutting the door"),
        ("slide the window open", "sliding the window open"),
        ("turn on the tap", "turning on the tap"),
        ("pick up the mug", "picking up the mug"),
        ("stir the pot", "stirring the pot"),
        ("lie the bottle down", "lying the bottle down"),
        ("tie the knot", "tying the knot"),
        ("see the light", "seeing the light"),
        ("dye the cloth", "dyeing the cloth"),
        ("bring the cup", "bringing the cup"),
        ("swing the door open", "swinging the door open"),
        ("pour water", "pouring water"),
        ("mix the dough", "mixing the dough"),
        ("tow the cart", "towing the cart"),
        ("play the note", "playing the note"),
        ("unplug the peg", "unplugging the peg"),
        ("mimic the wave", "mimicking the wave"),
        ("quit the game", "quitting the game"),
        ("equip the arm", "equipping the arm"),
        ("singe the wick", "singeing the wick"),
        ("arrange the cups", "arranging the cups"),
        ("apply glue", "applying glue"),
        ("re-open the drawer", "re-opening the drawer"),
        ("opening the drawer", "opening the drawer"),
        ("Open the IKEA drawer.", "opening the IKEA drawer"),
        ("  please   open\n the drawer ! ", "opening the drawer"),
        ("Could you please shut the drawer for me?", "shutting the drawer"),
        ("I want you to press the button, please.", "pressing the button"),
        ("carefully open the drawer", "carefully opening the drawer"),
        ("pick up the mug and place it here", "picking up the mug and placing it here"),
        ("move the salt and pepper", "moving the salt and pepper"),
    ],
)
def test_verb_is_put_in_its_ing_form(task: str, action: str) -> None:
    assert video_prompt(task) == f"A person {action}, static camera"


def test_a_prompt_is_kept() -> None:
    prompt = "A person opening the drawer, static camera"
    assert video_prompt(prompt) == prompt
    assert video_prompt(prompt + ".") == prompt


@pytest.mark.parametrize(
    "task",
    [
        "",
        "   ",
        "...",
        "12345",
        "?!",
        "the drawer",
        "do not open the drawer",
        "asdfghjkl the drawer",
        "{open} the drawer",
        "открой ящик",
        "open\x00 the drawer",
        "please",
        "x",
    ],
)
def test_garbage_is_refused_with_an_example(task: str) -> None:
    with pytest.raises(InvalidInstruction):
        video_prompt(task)


def test_ten_kilobytes_are_refused_without_being_repeated() -> None:
    with pytest.raises(InvalidInstruction, match=str(MAX_TASK_CHARS)) as caught:
        video_prompt("open " * 2048)
    assert len(str(caught.value)) < 200
