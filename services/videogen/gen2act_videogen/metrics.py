"""Prometheus metrics of this service."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

GENERATIONS = Counter(
    "gen2act_videogen_generations_total",
    "Attempts at a video by backend and outcome (made, cached, cancelled or an error code)",
    ["backend", "outcome"],
)
GENERATION_SECONDS = Histogram(
    "gen2act_videogen_generation_seconds",
    "Wall time of a generation, from its turn to its being stored",
    ["backend"],
    buckets=(0.25, 0.5, 1, 2, 4, 6, 8, 10, 15, 30, 60, 120),
)
