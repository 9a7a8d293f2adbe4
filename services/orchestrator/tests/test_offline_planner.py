from __future__ import annotations

import pytest

from gen2act_contracts.errors import InvalidInstruction, UnknownActivity
from gen2act_orchestrator.domain.clauses import plan_offline

DRAWER = ("open the drawer", "close the drawer")
COFFEE = (
    "push the mug to the coffee machine",
    "press the button of the coffee machine",
    "pull the mug away from the coffee machine",
)


@pytest.mark.parametrize(
    ("activity", "first"),
    [
        ("stow the apple", "open the drawer"),
        ("stowing the apple", "open the drawer"),
        ("make coffee with a Keurig", "open the lid"),
        ("clean the table", "pick a tissue from the box"),
        ("heat soup", "open the microwave"),
    ],
)
def test_the_activities_of_the_paper_are_known(activity: str, first: str) -> None:
    stages = plan_offline(activity)
    assert len(stages) == 3
    assert stages[0] == first


@pytest.mark.parametrize(
    "said",
    ["make coffee", "Make coffee.", "please make some coffee", "Could you make a coffee?"],
)
def test_making_coffee_is_the_simulators_chain(said: str) -> None:
    assert plan_offline(said) == COFFEE


@pytest.mark.parametrize("thing", ["drawer", "door", "window", "faucet", "big red box"])
def test_open_and_close_is_two_stages_for_any_object(thing: str) -> None:
    assert plan_offline(f"open and close the {thing}") == (
        f"open the {thing}",
        f"close the {thing}",
    )


@pytest.mark.parametrize(
    "said",
    [
        "open the drawer, then close the drawer",
        "open the drawer and then close the drawer",
        "Open the drawer. Close the drawer.",
        "open the drawer and close it",
        "open the drawer, close it",
        "open the drawer; close the drawer",
        "1. open the drawer 2. close the drawer",
        "1) open the drawer\n2) close the drawer",
        "- open the drawer\n- close the drawer",
        "First open the drawer, and finally close the drawer",
        "OPEN the drawer then CLOSE the drawer",
    ],
)
def test_ways_to_say_two_things(said: str) -> None:
    assert plan_offline(said) == DRAWER


def test_and_within_one_motion_does_not_split_it() -> None:
    assert plan_offline("pick up the salt and pepper") == ("pick up the salt and pepper",)


def test_pronouns_are_replaced_by_what_they_mean() -> None:
    assert plan_offline("open the drawer, put the apple in it and close it") == (
        "open the drawer",
        "put the apple in the drawer",
        "close the drawer",
    )
    assert plan_offline("pick up the cup and place it on the plate") == (
        "pick up the cup",
        "place the cup on the plate",
    )


def test_activities_and_motions_mix() -> None:
    assert plan_offline("make coffee, then open and close the drawer") == (*COFFEE, *DRAWER)


@pytest.mark.parametrize("said", ["do the laundry", "make breakfast", "philosophise", "open"])
def test_what_is_not_known_is_refused_and_says_how_to_configure_a_model(said: str) -> None:
    with pytest.raises(UnknownActivity, match="GEN2ACT_LLM_BASE_URL") as refused:
        plan_offline(said)
    assert "make coffee" in refused.value.message


def test_one_unknown_part_refuses_the_whole() -> None:
    with pytest.raises(UnknownActivity, match="celebrate"):
        plan_offline("open the drawer, then celebrate")


def test_too_many_stages_are_refused() -> None:
    with pytest.raises(InvalidInstruction, match="at most 12"):
        plan_offline("\n".join(["open the drawer"] * 13))
