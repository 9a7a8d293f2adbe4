"""What is run: named lists of cases, with what is missing and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from gen2act_sim import ACTIVITIES, TASKS

from .errors import UnknownChoice

# The eleven Meta-World tasks of AVDC's evaluation, in its order.
AVDC11 = (
    "door-open",
    "door-close",
    "basketball",
    "shelf-place",
    "button-press",
    "button-press-topdown",
    "faucet-close",
    "faucet-open",
    "handle-press",
    "hammer",
    "assembly",
)
SEEN = (*AVDC11, "coffee-push", "coffee-button", "coffee-pull", "drawer-open", "drawer-close")

# The paper's higher levels (section 4.1) ask for what no robot data showed. Which tasks could
# stand for them is fixed here; whether they were held out, the bundle's manifest has to say.
OBJECT_TYPE = ("coffee-button", "handle-press", "shelf-place", "basketball")
MOTION_TYPE = ("faucet-open", "faucet-close", "hammer", "assembly")


@dataclass(frozen=True)
class Case:
    """Tasks that are run one after another without a reset between them, under one look."""

    name: str  # task id or activity
    tasks: tuple[str, ...]
    level: str = ""  # of the suite `levels`, e.g. "MG"
    look: str = "plain"  # key of `looks.LOOKS`

    @property
    def id(self) -> str:
        """Unique within a suite."""
        return f"{self.level}: {self.name}" if self.level else self.name


@dataclass(frozen=True)
class Suite:
    """Cases in the order of the tables, and what the suite should have but has not."""

    name: str
    cases: tuple[Case, ...]
    missing: Mapping[str, str]  # what -> why


def _single(names: Collection[str], **how: str) -> tuple[list[Case], dict[str, str]]:
    cases = [Case(name, (name,), **how) for name in names if name in TASKS]
    return cases, {name: "this simulator has no such task" for name in names if name not in TASKS}


def _avdc11(trained: Collection[str] | None) -> tuple[list[Case], dict[str, str]]:
    return _single(AVDC11)


def _seen(trained: Collection[str] | None) -> tuple[list[Case], dict[str, str]]:
    return _single(SEEN)


def _all(trained: Collection[str] | None) -> tuple[list[Case], dict[str, str]]:
    return _single(TASKS)


def _chains(trained: Collection[str] | None) -> tuple[list[Case], dict[str, str]]:
    return [Case(activity, tasks) for activity, tasks in ACTIVITIES.items()], {}


def _levels(trained: Collection[str] | None) -> tuple[list[Case], dict[str, str]]:
    """The paper's levels, as far as this simulator can vary them."""
    names = [name for name in SEEN if trained is None or name in trained]
    cases, missing = _single(names, level="unchanged")
    if not names:
        missing["unchanged"] = "the bundle was trained on none of the tasks of `seen`"
    for level, look in (("MG", "light"), ("G", "colours"), ("camera", "camera")):
        cases += _single(names, level=level, look=look)[0]
    missing["G with other sizes and shapes"] = (
        "the experts and the judge measure in the geometry of Meta-World's models, "
        "so only colours vary"
    )
    for level, held_out in (("OTG", OBJECT_TYPE), ("MTG", MOTION_TYPE)):
        if trained is None:
            missing[level] = (
                "the bundle's manifest does not name the tasks it was trained on "
                "(training.tasks), so nothing is known to be held out"
            )
            continue
        unseen, _ = _single([name for name in held_out if name not in trained], level=level)
        if not unseen:
            missing[level] = f"the bundle was trained on {', '.join(held_out)}"
        cases += unseen
    return cases, missing


SUITES: Mapping[str, Callable[[Collection[str] | None], tuple[list[Case], dict[str, str]]]] = {
    "seen": _seen,
    "avdc11": _avdc11,
    "chains": _chains,
    "levels": _levels,
    "all": _all,
}


def build_suite(
    name: str, *, only: Collection[str] = (), trained: Collection[str] | None = None
) -> Suite:
    """A suite, or the part of it that runs the tasks, activities or levels in `only`.

    Args:
        name: key of `SUITES`.
        only: names or levels; empty for all.
        trained: ids of the tasks in the bundle's robot data, None where unknown.

    Raises:
        UnknownChoice: no such suite, or `only` names something that it does not have.
    """
    if name not in SUITES:
        raise UnknownChoice.of("suite", name, SUITES)
    cases, missing = SUITES[name](trained)
    known = dict.fromkeys(key for case in cases for key in (case.name, case.level) if key)
    for wanted in only:
        if wanted in missing:
            raise UnknownChoice(f"{wanted!r} of suite {name!r} cannot be run: {missing[wanted]}")
        if wanted not in known:
            raise UnknownChoice.of(f"task or level of suite {name!r}", wanted, known)
    if only:
        cases = [case for case in cases if case.name in only or case.level in only]
        missing = {}
    return Suite(name, tuple(cases), missing)
