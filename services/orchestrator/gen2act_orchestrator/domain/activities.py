"""Known activities: those of the paper (table of long-horizon activities) and of the simulator.

Stages are imperatives, as a person would say them. The simulator's are its own sentences.
"""

from __future__ import annotations

import re

# Named by a sentence; several sentences may name the same activity.
_KEURIG = ("open the lid", "place the K-Cup pod inside", "close the lid")
_APPLE = ("open the drawer", "place the apple in the drawer", "close the drawer")
_TABLE = ("pick a tissue from the box", "press the sanitizer dispenser", "wipe the table")
_SOUP = ("open the microwave", "put the bowl inside the microwave", "close the microwave")
_COFFEE = (
    "push the mug to the coffee machine",
    "press the button of the coffee machine",
    "pull the mug away from the coffee machine",
)

ACTIVITIES: dict[str, tuple[str, ...]] = {
    "stow the apple": _APPLE,
    "put away the apple": _APPLE,
    "make coffee with a Keurig": _KEURIG,
    "make coffee with a Keurig machine": _KEURIG,
    "clean the table": _TABLE,
    "clean up the table": _TABLE,
    "heat soup": _SOUP,
    "heat up soup": _SOUP,
    "warm up soup": _SOUP,
    "heat soup in a microwave": _SOUP,
    "make coffee": _COFFEE,
    "make a cup of coffee": _COFFEE,
    "brew coffee": _COFFEE,
    "brew a cup of coffee": _COFFEE,
    # "open and close the drawer" and its like follow from the splitter's grammar
}

_POLITE = re.compile(
    r"^(?:please|kindly|now|robot|hey|"
    r"(?:can|could|would|will) you(?: please)?|i want you to|i would like you to|i'd like you to)\b"
    r"[ ,]*|[ ,]*\bplease$",
    re.IGNORECASE,
)
_ARTICLES = frozenset({"a", "an", "the", "some", "me", "my", "our", "us"})
_VERB_STEMS = {
    "making": "make",
    "stowing": "stow",
    "cleaning": "clean",
    "heating": "heat",
    "warming": "warm",
    "brewing": "brew",
    "putting": "put",
}


def strip_politeness(text: str) -> str:
    """ "Could you please open the door?" → "open the door"."""
    text = text.strip(" .?!;,")
    while (shorter := _POLITE.sub("", text).strip(" .?!;,")) != text:
        text = shorter
    return text


def _key(text: str) -> tuple[str, ...]:
    words = re.findall(r"[a-z0-9'-]+", strip_politeness(text).lower())
    words = [word for word in words if word not in _ARTICLES]
    return tuple(_VERB_STEMS.get(word, word) if i == 0 else word for i, word in enumerate(words))


_BY_KEY = {_key(name): stages for name, stages in ACTIVITIES.items()}


def find_activity(text: str) -> tuple[str, ...] | None:
    """The stages of a known activity, or None. Articles, politeness and -ing do not matter."""
    return _BY_KEY.get(_key(text))
