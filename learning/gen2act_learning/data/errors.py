"""What is wrong with a dataset, in words that name the place and the way out."""

from __future__ import annotations


class DatasetError(ValueError):
    """A dataset cannot be read, or not be trained on."""
