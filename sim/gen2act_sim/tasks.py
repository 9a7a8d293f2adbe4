"""The tasks, scenes and activities this simulator knows, and text → task matching."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gen2act_sim.errors import UnknownTask


@dataclass(frozen=True)
class TaskInfo:
    """One manipulation task in one scene."""

    id: str
    scene: str
    instruction: str  # canonical imperative, e.g. "open the drawer"
    paraphrases: tuple[str, ...]
    object: str  # what is manipulated, as a person names it


_ALL = (
    TaskInfo(
        "coffee-push",
        "coffee",
        "push the mug to the coffee machine",
        (
            "move the mug to the coffee machine",
            "put the mug under the coffee machine",
            "place the cup under the coffee machine",
            "slide the mug under the spout",
        ),
        "mug",
    ),
    TaskInfo(
        "coffee-button",
        "coffee",
        "press the button of the coffee machine",
        (
            "press the button on the coffee machine",
            "push the coffee machine button",
            "turn on the coffee machine",
            "start the coffee machine",
        ),
        "button",
    ),
    TaskInfo(
        "coffee-pull",
        "coffee",
        "pull the mug away from the coffee machine",
        (
            "take the mug away from the coffee machine",
            "pull the mug from under the coffee machine",
            "remove the cup from the coffee machine",
            "move the mug away from the coffee machine",
            "take the mug from the coffee machine",
        ),
        "mug",
    ),
    TaskInfo(
        "drawer-open",
        "drawer",
        "open the drawer",
        ("pull the drawer open", "pull out the drawer", "slide the drawer open"),
        "drawer",
    ),
    TaskInfo(
        "drawer-close",
        "drawer",
        "close the drawer",
        ("push the drawer closed", "shut the drawer", "push in the drawer"),
        "drawer",
    ),
    TaskInfo(
        "door-open",
        "door",
        "open the door",
        ("pull the door open", "pull open the safe door", "swing the door open"),
        "door",
    ),
    TaskInfo(
        "door-close",
        "door",
        "close the door",
        ("push the door closed", "shut the door", "swing the door shut"),
        "door",
    ),
    TaskInfo(
        "window-open",
        "window",
        "open the window",
        ("slide the window open", "push the window open"),
        "window",
    ),
    TaskInfo(
        "window-close",
        "window",
        "close the window",
        ("slide the window closed", "shut the window"),
        "window",
    ),
    TaskInfo(
        "faucet-open",
        "faucet",
        "open the faucet",
        ("turn on the faucet", "turn the faucet on", "open the tap", "turn on the tap"),
        "faucet",
    ),
    TaskInfo(
        "faucet-close",
        "faucet",
        "close the faucet",
        ("turn off the faucet", "turn the faucet off", "close the tap", "turn off the tap"),
        "faucet",
    ),
    TaskInfo(
        "basketball",
        "basketball",
        "put the basketball in the hoop",
        (
            "bring the ball to the hoop",
            "throw the basketball into the hoop",
            "lift the ball into the basket",
        ),
        "ball",
    ),
    TaskInfo(
        "shelf-place",
        "shelf",
        "place the block on the shelf",
        ("put the cube on the shelf", "lift the block onto the shelf"),
        "block",
    ),
    TaskInfo(
        "button-press",
        "button",
        "press the red button in front",
        ("push the red button in", "press the button on the front of the box"),
        "button",
    ),
    TaskInfo(
        "button-press-topdown",
        "button-topdown",
        "press the red button on top",
        ("push the red button down", "press the button down from above"),
        "button",
    ),
    TaskInfo(
        "handle-press",
        "handle",
        "press the handle down",
        ("push the handle down", "press down the red handle", "lower the handle"),
        "handle",
    ),
    TaskInfo(
        "hammer",
        "hammer",
        "hammer the nail into the block",
        ("hit the nail with the hammer", "drive the nail into the wood", "hammer in the nail"),
        "hammer",
    ),
    TaskInfo(
        "assembly",
        "assembly",
        "put the ring on the peg",
        (
            "place the wrench on the peg",
            "assemble the ring and the peg",
            "lower the ring onto the peg",
        ),
        "ring",
    ),
)

TASKS: dict[str, TaskInfo] = {task.id: task for task in _ALL}

SCENES: dict[str, tuple[str, ...]] = {
    scene: tuple(task.id for task in _ALL if task.scene == scene)
    for scene in dict.fromkeys(task.scene for task in _ALL)
}

ACTIVITIES: dict[str, tuple[str, ...]] = {
    "make coffee": SCENES["coffee"],
    **{
        f"open and close the {scene}": tasks
        for scene, tasks in SCENES.items()
        if tasks == (f"{scene}-open", f"{scene}-close")
    },
}

# Words that carry no meaning for the match; prompts say "A person ..., static camera".
_STOP = frozenset(
    ("a", "an", "the", "person", "static", "camera", "of", "to", "from", "with", "please", "it")
)
_SAME = {
    "cup": "mug",
    "tap": "faucet",
    "shut": "close",
    "take": "pull",
    "remove": "pull",
    "put": "push",
    "place": "push",
    "move": "push",
    "slid": "slide",
    "closed": "close",
    "opened": "open",
    "start": "press",
}


def _stem(word: str) -> str:
    """Imperative form of a word that may be in its -ing form ("closing" → "close")."""
    if word.endswith("ing") and len(word) > 5:
        root = word[:-3]
        if len(root) > 2 and root[-1] == root[-2] and root[-1] not in "sl":
            root = root[:-1]  # "putting" → "put"
        if root in {"clos", "mak", "slid", "plac", "mov", "remov", "tak", "driv", "assembl"}:
            root += "e"
        word = root
    return _SAME.get(word, word)


def _words(text: str) -> frozenset[str]:
    found = re.findall(r"[a-z]+", text.lower())
    return frozenset(_stem(word) for word in found if word not in _STOP)


def match_task(text: str, scene: str | None = None) -> TaskInfo:
    """The task that an instruction or video prompt speaks of.

    Args:
        text: "open the drawer", or "A person opening the drawer, static camera".
        scene: only tasks of this scene are considered.

    Raises:
        UnknownTask: nothing matches well enough; the message lists what is known.
    """
    if scene is not None and scene not in SCENES:
        raise UnknownTask(f"unknown scene {scene!r}; known: {', '.join(SCENES)}")
    candidates = [task for task in _ALL if scene is None or task.scene == scene]
    wanted = _words(text)
    best: TaskInfo | None = None
    best_score = 0.0
    for task in candidates:
        for phrase in (task.instruction, *task.paraphrases):
            words = _words(phrase)
            verb = _stem(phrase.split()[0])
            if verb not in wanted or len(wanted & words) < 2:
                continue  # "throw the mug to the coffee machine" is not "push ..."
            score = len(wanted & words) / max(1, len(wanted | words))
            if score > best_score:
                best, best_score = task, score
    if best is None or best_score < 0.5:
        known = "; ".join(task.instruction for task in candidates)
        where = f"in scene {scene!r}" if scene else "in any scene"
        raise UnknownTask(f"no task {where} matches {text[:200]!r}; known: {known}")
    return best
