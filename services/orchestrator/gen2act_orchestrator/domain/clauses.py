"""The offline planner: splits a sentence into imperatives without any model."""

from __future__ import annotations

import re

from gen2act_contracts.errors import InvalidInstruction, UnknownActivity
from gen2act_orchestrator.domain.activities import ACTIVITIES, find_activity, strip_politeness
from gen2act_orchestrator.domain.instruction import MAX_STAGES, clean_instruction, clean_stage

# Things one does with one motion. "make" or "clean" name activities of several motions instead.
_VERB_LIST = """
    assemble attach bring close collect detach disassemble drag drop fetch flip fold grab grasp
    hammer hang hit insert knock lay lift lock lower move open pick place plug point pour press
    pull push put raise reach release remove rotate scoop screw seal shake shove shut slide spin
    spread squeeze stack stir stow sweep swing switch take tap tilt touch toggle toss turn twist
    uncover unfold unlock unplug unscrew wave wipe wring
"""
_VERBS = frozenset(_VERB_LIST.split())

_NUMBERED = re.compile(r"(?:^|\s)\(?\d{1,2}[.):]\s+|(?:^|\n)\s*[-*•]\s+")
_HARD = re.compile(
    r"\n|;|,?\s*\b(?:and\s+)?(?:then|after\s+that|afterwards|next|finally)\b,?|(?<=\w)[.!?](?=\s|$)",
    re.IGNORECASE,
)
_LEADING = re.compile(r"^(?:first|second|third|lastly|also|to start)\b[ ,]*|^and\s+", re.IGNORECASE)
_SOFT = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+", re.IGNORECASE)
_PAIR = re.compile(r"^(\w+) (?:and|&) (\w+) (.+)$", re.IGNORECASE)
_PRONOUN = re.compile(
    r"^(\w+(?: (?:up|down|on|off|out|in|away))?) (?:it|them)\b(.*)$", re.IGNORECASE
)
_INTO_IT = re.compile(r"\b(in|into|inside|on|onto|under|to|from) it\b", re.IGNORECASE)
_OBJECT = re.compile(
    r"^\w+ (?:(?:up|down|on|off|out|in|away) )?((?:the|a|an|my|your|this|that)\b.*?)"
    r"(?: (?:in|into|inside|on|onto|to|from|under|with|of|away|at|off|out|up|down)\b.*)?$",
    re.IGNORECASE,
)


def _is_imperative(clause: str) -> bool:
    words = clause.split()
    return len(words) >= 2 and words[0].lower() in _VERBS


def _soft_split(clause: str) -> list[str]:
    """Split at commas and "and", but only where each part is something to do.

    "pick up the salt and pepper" is one thing to do; "open the box, take the pen" is two.
    """
    if find_activity(clause) is not None:
        return [clause]
    pair = _PAIR.match(clause)
    if pair and pair[1].lower() in _VERBS and pair[2].lower() in _VERBS:
        return [f"{pair[1]} {pair[3]}", *_soft_split(f"{pair[2]} {pair[3]}")]
    for joint in _SOFT.finditer(clause):
        head, tail = clause[: joint.start()].strip(), clause[joint.end() :].strip()
        starts_action = _is_imperative(tail) or find_activity(_first_part(tail)) is not None
        if head and starts_action:
            return [head, *_soft_split(tail)]
    return [clause]


def _first_part(text: str) -> str:
    return _SOFT.split(text, maxsplit=1)[0]


def _resolve_pronouns(clauses: list[str]) -> list[str]:
    """ "open the drawer", "close it" → "close the drawer": a video prompt stands alone.

    What was opened is what gets closed and what things are put into; any other "it" is the last
    thing spoken of.
    """
    resolved: list[str] = []
    last: str | None = None
    opened: str | None = None
    for clause in clauses:
        if container := opened or last:
            clause = _INTO_IT.sub(rf"\1 {container}", clause)
        pronoun = _PRONOUN.match(clause)
        meant = opened if pronoun and pronoun[1].lower() in ("close", "shut") and opened else last
        if pronoun and meant:
            clause = f"{pronoun[1]} {meant}{pronoun[2]}"
            last = meant
        elif found := _OBJECT.match(clause):
            last = found[1]
            if clause.lower().startswith("open "):
                opened = last
        resolved.append(clause)
    return resolved


def split_clauses(instruction: str) -> list[str]:
    """The things to do, in order, one imperative each. Nothing is checked to be known."""
    parts = [part for part in _NUMBERED.split(instruction) if part.strip()]
    sentences = [sentence for part in parts for sentence in _HARD.split(part)]
    clauses: list[str] = []
    for sentence in sentences:
        sentence = strip_politeness(_LEADING.sub("", sentence.strip()))
        if sentence:
            clauses.extend(strip_politeness(_LEADING.sub("", c)) for c in _soft_split(sentence))
    return [clause for clause in clauses if clause]


def plan_offline(instruction: str) -> tuple[str, ...]:
    """Stages of an instruction, by the table of activities and the splitter.

    Raises:
        InvalidInstruction: empty, too long, or more than MAX_STAGES stages.
        UnknownActivity: a part is neither a known activity nor one motion; says how to configure
            a language model for it.
    """
    text = clean_instruction(instruction)
    whole = find_activity(text)
    if whole is not None:
        return whole
    stages: list[str] = []
    for clause in _resolve_pronouns(split_clauses(text)):
        activity = find_activity(clause)
        if activity is not None:
            stages.extend(activity)
        elif _is_imperative(clause):
            verb, rest = clause.split(maxsplit=1)
            stages.append(clean_stage(f"{verb.lower()} {rest}"))
        else:
            raise UnknownActivity(
                f"cannot split {clause[:120]!r} into motions without a language model. Known "
                f"activities: {', '.join(ACTIVITIES)}. Otherwise give `stages` yourself, write the "
                'motions one by one ("open the drawer, then close the drawer"), or configure a '
                "language model with GEN2ACT_LLM_BASE_URL, GEN2ACT_LLM_MODEL and "
                "GEN2ACT_LLM_API_KEY (any OpenAI-compatible /chat/completions endpoint)"
            )
    if not stages:
        raise InvalidInstruction("the instruction names nothing to do")
    if len(stages) > MAX_STAGES:
        raise InvalidInstruction(
            f"the instruction has {len(stages)} stages; at most {MAX_STAGES} are allowed"
        )
    return tuple(stages)
