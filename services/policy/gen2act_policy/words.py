"""An instruction as numbers, for policies that are conditioned on language.

The numbers are part of what such a bundle means: its `instruction_encoder` was trained on them.
"""

import re
from zlib import crc32

import numpy as np
import numpy.typing as npt

from gen2act_contracts.errors import InvalidInstruction

WORDS = 32  # the longest instruction that is read
BUCKETS = 1024

WordIds = npt.NDArray[np.int64]


def word_ids(instruction: str) -> WordIds:
    """int64[WORDS]: 1 + CRC-32 of each lower-case word's UTF-8 modulo BUCKETS, then zeros.

    A word is a run of letters, digits and underscores. Any word has a number, seen in training or
    not; two words may share one. Raises `InvalidInstruction` for no word and for more than WORDS.
    """
    words = re.findall(r"\w+", instruction.lower())
    if not 0 < len(words) <= WORDS:
        raise InvalidInstruction(
            f"instruction {instruction[:80]!r} has {len(words)} words; want 1 to {WORDS}"
        )
    numbers = np.zeros(WORDS, np.int64)
    numbers[: len(words)] = [1 + crc32(word.encode()) % BUCKETS for word in words]
    return numbers
