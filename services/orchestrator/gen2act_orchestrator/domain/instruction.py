"""What counts as an instruction."""

from __future__ import annotations

import unicodedata

from gen2act_contracts.errors import InvalidInstruction

MAX_INSTRUCTION_CHARS = 1000
MAX_STAGE_CHARS = 200
MAX_STAGES = 12


def clean_instruction(text: str, *, limit: int = MAX_INSTRUCTION_CHARS) -> str:
    """The instruction with outer space and runs of blanks removed; line breaks are kept.

    Raises:
        InvalidInstruction: empty, longer than `limit` characters, without any letter, or with
            characters that cannot be written in UTF-8 or are control characters.
    """
    if len(text) > limit:
        raise InvalidInstruction(
            f"the instruction has {len(text)} characters; at most {limit} are allowed"
        )
    for position, character in enumerate(text):
        category = unicodedata.category(character)
        if category == "Cs":
            raise InvalidInstruction(
                f"the instruction is not valid UTF-8 text: lone surrogate at character {position}"
            )
        if category == "Cc" and character not in "\n\r\t":
            raise InvalidInstruction(
                f"the instruction holds a control character (U+{ord(character):04X}) "
                f"at character {position}"
            )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    cleaned = "\n".join(line for line in lines if line)
    if not any(character.isalpha() for character in cleaned):
        raise InvalidInstruction(
            'the instruction is empty; say what to do, for example "make coffee"'
        )
    return cleaned


def clean_stage(text: str) -> str:
    """One stage's imperative on one line, without a final full stop.

    Raises:
        InvalidInstruction: as `clean_instruction`, with the limit for one stage.
    """
    cleaned = clean_instruction(text, limit=MAX_STAGE_CHARS)
    return cleaned.replace("\n", " ").rstrip(" .;,!")
