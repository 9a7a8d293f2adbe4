"""Seeds as a person writes them."""

from __future__ import annotations


def parse_seeds(text: str) -> list[int]:
    """Seeds from "3", "100-119" or "1,5,10-12".

    Raises:
        ValueError: with the part that is not understood.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise ValueError(f"not a seed or range of seeds: {part!r}; e.g. 100-119") from None
        if high < low:
            raise ValueError(f"the range {part!r} is empty")
        seeds.extend(range(low, high + 1))
    return seeds
