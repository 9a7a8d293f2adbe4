"""Ports of a run."""

from __future__ import annotations

import socket
from dataclasses import astuple

from gen2act_demo import ports


def test_a_taken_default_is_replaced_and_free_ones_are_kept() -> None:
    wanted = ports.choose()
    with socket.socket() as taken:
        taken.bind((ports.HOST, wanted.policy))
        taken.listen()
        chosen = ports.choose(prefer=wanted)
    assert chosen.policy != wanted.policy
    assert chosen.http == wanted.http


def test_chosen_ports_differ() -> None:
    chosen = astuple(ports.choose())
    assert len(set(chosen)) == len(chosen)
