"""Confidence intervals of the result tables."""

from __future__ import annotations

import pytest

from gen2act_demo.wilson import wilson_interval


def test_interval_matches_a_published_value() -> None:
    # 15 of 20 at 95 %: 0.531 to 0.888 (Newcombe 1998, method 3, gives the same formula).
    assert wilson_interval(15, 20) == pytest.approx((0.5313, 0.8881), abs=5e-4)


@pytest.mark.parametrize("successes", [0, 20])
def test_interval_stays_within_zero_and_one(successes: int) -> None:
    low, high = wilson_interval(successes, 20)
    assert 0.0 <= low < high <= 1.0


def test_more_successes_than_trials_is_refused() -> None:
    with pytest.raises(ValueError, match="21/20"):
        wilson_interval(21, 20)
