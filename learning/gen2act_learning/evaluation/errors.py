"""What can be wrong with an evaluation.

EvaluationError
├── UnknownChoice     a suite, task or level that does not exist; names those that do
├── ResultsMismatch   a results file of another bundle, simulator or tick budget
├── WrongCondition    videos for a bundle that follows an instruction, or the reverse
├── NoVideo           no human video could be made for this scene; the episode is a miss
└── EpisodeFailed     an episode broke off; names it
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EvaluationError(Exception):
    """Base of everything the evaluation raises on purpose."""


class UnknownChoice(EvaluationError):
    """A name that does not exist; the message lists those that do."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownChoice:
        """An unknown `name` of a `kind`, with the nearest known one."""
        known = list(known)
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return cls(f"unknown {kind} {name!r}, known: {', '.join(known)}{hint}")


class ResultsMismatch(EvaluationError):
    """Results on disk that were made under other conditions."""


class WrongCondition(EvaluationError):
    """The bundle cannot follow what it would be given."""


class NoVideo(EvaluationError):
    """No human video could be made for this scene."""


class EpisodeFailed(EvaluationError):
    """An episode broke off; not a miss of the policy."""
