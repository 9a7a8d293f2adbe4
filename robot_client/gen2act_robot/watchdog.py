"""Stops the robot when the control loop itself hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Watchdog:
    """A thread of its own that calls `stop` once if it is not fed in time while armed.

    The loop's own bounds (hold, then stop) need a loop that runs. This is for the rest: a driver
    call that never returns, a blocked event loop.

    Args:
        stop: called with a reason, from the watchdog's thread.
        limit_ms: [ms] longest time between feeds.
        now_ns: monotonic clock; tests pass their own and call `check`.
    """

    def __init__(
        self,
        stop: Callable[[str], None],
        limit_ms: float,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._stop = stop
        self._limit_ns = int(limit_ms * 1e6)
        self._now_ns = now_ns
        self._deadline_ns: int | None = None  # None: not armed
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def feed(self, expected_ms: float = 0.0) -> None:
        """Arms, or re-arms: the next feed is due within `expected_ms` plus the limit."""
        with self._wake:
            self._deadline_ns = self._now_ns() + int(expected_ms * 1e6) + self._limit_ns
            self._wake.notify()

    def disarm(self) -> None:
        with self._wake:
            self._deadline_ns = None
            self._wake.notify()

    def check(self) -> bool:
        """Stops the robot if the feed is overdue; says whether it did."""
        with self._wake:
            overdue = self._deadline_ns is not None and self._now_ns() >= self._deadline_ns
            if overdue:
                self._deadline_ns = None
        if overdue:
            self._stop(f"watchdog: the control loop hung for {self._limit_ns / 1e6:.0f} ms")
        return overdue

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="robot-watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while True:
            with self._wake:
                if self._closed:
                    return
                deadline_ns = self._deadline_ns
                if deadline_ns is None:
                    self._wake.wait()
                    continue
                remaining_s = (deadline_ns - self._now_ns()) / 1e9
                if remaining_s > 0:
                    self._wake.wait(remaining_s)
                    continue
            self.check()
