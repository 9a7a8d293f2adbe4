"""Imperative instruction → video prompt, exactly "A person <task>, static camera" (appendix 5.1).

Rule-based and English only. The inflection libraries at hand are either wrong for this use
(`inflect` gives "openning") or carry a dictionary of megabytes; the rules below are the
textbook's, and every verb of the simulator's tasks is in the tests.
"""

from __future__ import annotations

import re
import unicodedata

from gen2act_contracts.errors import InvalidInstruction

MAX_TASK_CHARS = 300
_PREFIX = "a person "
_SUFFIX = ", static camera"

_VOWELS = "aeiou"
# Ways to ask, which are no part of what is to be done.
_ASKING_BEFORE = re.compile(
    r"^((please|now|(can|could|would|will) you|i (want|would like) you to)[ ,]+)+", re.IGNORECASE
)
_ASKING_AFTER = re.compile(r"([ ,]+(please|for me))+$", re.IGNORECASE)
_WORD = re.compile(r"[a-z]+(-[a-z]+)?")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Bare verbs that happen to end in -ing; everything else in -ing is taken as inflected already.
_BARE_ING = _set("bring cling fling ring sing sling spring sting string swing wring")
# Verbs in -ly, which would otherwise be read as adverbs ("carefully open the drawer").
_VERBS_IN_LY = _set("apply fly multiply rely reply supply")
# Stress on the last of several syllables doubles the consonant: "unplugging", but "opening".
_STRESSED_END = _set(
    "admit begin commit control equip forget occur permit refer regrip reset transfer "
    "unclip uncap unpin unplug unwrap unzip upset"
)
# Verbs that may follow "and"/"then" in one stage. A closed list: "salt and pepper" is no action.
_SECOND_VERBS = _set(
    "close drop flip grab hold insert lay lift lower move open pick place pour press pull push put "
    "raise release remove rotate shake shut slide squeeze stir take tip turn twist wipe"
)
# First words that show that the text does not begin with its verb.
_NOT_VERBS = _set(
    "a an and at can could do don dont he her his how i if in is it my never no not now of on or "
    "our please she so that the their them then there these they this those to we what when "
    "where which who why will with would you your"
)


def video_prompt(task: str) -> str:
    """ "open the drawer" → "A person opening the drawer, static camera".

    A text that is such a prompt already comes back as it is, but for spaces and letter case.

    Raises:
        InvalidInstruction: empty, too long, not text, or not beginning with a verb.
    """
    words = _clean(task).split(" ")
    head = 0
    while head < len(words) - 1 and _is_adverb(words[head]):
        words[head] = words[head].lower()
        head += 1
    words[head] = _ing(_first_verb(words[head], task))
    for position in range(head + 2, len(words)):
        follows = words[position - 1].lower() in {"and", "then"}
        if follows and words[position].lower() in _SECOND_VERBS:
            words[position] = _ing(words[position].lower())
    return f"A person {' '.join(words)}{_SUFFIX}"


def _clean(task: str) -> str:
    if len(task) > MAX_TASK_CHARS:
        raise InvalidInstruction(
            f"the task has {len(task)} characters; at most {MAX_TASK_CHARS} are accepted"
        )
    text = " ".join(task.split())
    if any(unicodedata.category(char) in {"Cc", "Cs", "Co", "Cn"} for char in text):
        raise InvalidInstruction(f"the task {_shown(task)} contains control characters")
    text = text.rstrip(" .!?,;:")
    lowered = text.lower()
    if lowered.endswith(_SUFFIX):
        text = text[: -len(_SUFFIX)]
    if lowered.startswith(_PREFIX):
        text = text[len(_PREFIX) :]
    text = _ASKING_AFTER.sub("", _ASKING_BEFORE.sub("", text)).strip()
    if not text:
        raise InvalidInstruction('the task is empty; expected e.g. "open the drawer"')
    return text


def _is_adverb(word: str) -> bool:
    lowered = word.lower()
    return lowered.endswith("ly") and len(lowered) > 4 and lowered not in _VERBS_IN_LY


def _first_verb(word: str, task: str) -> str:
    verb = word.lower()
    plausible = (
        _WORD.fullmatch(verb) is not None
        and 2 <= len(verb) <= 20
        and verb not in _NOT_VERBS
        and re.search(f"[{_VOWELS}y]", verb) is not None
        and re.search(f"[^{_VOWELS}y-]{{5}}", verb) is None  # "asdfghjkl"
    )
    if not plausible:
        raise InvalidInstruction(
            f"the task {_shown(task)} does not begin with an English verb (found {_shown(word)}); "
            'expected an imperative, e.g. "open the drawer"'
        )
    return verb


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _ing(verb: str) -> str:
    """Present participle of a lower-case verb: "close" → "closing", "stir" → "stirring"."""
    if verb.endswith("ing") and len(verb) > 4 and verb not in _BARE_ING:
        return verb
    if verb.endswith("ie"):
        return verb[:-2] + "ying"  # tie → tying
    # "singe" keeps its e, to differ from "singing".
    keeps_e = verb.endswith(("ee", "oe", "ye")) or verb in {"be", "singe", "tinge"}
    if verb.endswith("e") and not keeps_e:
        return verb[:-1] + "ing"  # close → closing
    if verb.endswith("ic"):
        return verb + "king"  # mimic → mimicking
    if _doubles(verb):
        return verb + verb[-1] + "ing"
    return verb + "ing"


def _doubles(verb: str) -> bool:
    """One stressed, short last syllable ending consonant-vowel-consonant: put, stir, unplug."""
    if verb in _STRESSED_END:
        return True
    # The u of "qu" is no vowel here: "quit" → "quitting".
    bare = verb.replace("qu", "qw")
    if len(bare) < 3 or bare[-1] in _VOWELS + "wxy":
        return False
    one_syllable = len(re.findall(f"[{_VOWELS}y]+", bare)) == 1
    return one_syllable and bare[-2] in _VOWELS and bare[-3] not in _VOWELS
