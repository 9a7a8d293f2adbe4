"""Runs episodes in this process or in several, and tells each result as soon as it is there."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from .episodes import Evaluator, Job
from .store import EpisodeResult

MakeEvaluator = Callable[[], Evaluator]

_evaluator: Evaluator | None = None  # of this worker process


def _start(make: MakeEvaluator) -> None:
    global _evaluator
    # Ctrl-C reaches the whole group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _evaluator = make()


def _run(job: Job) -> EpisodeResult:
    assert _evaluator is not None  # the pool's initializer made it
    return _evaluator.run(job)


def run_jobs(jobs: Sequence[Job], make: MakeEvaluator, *, workers: int) -> Iterator[EpisodeResult]:
    """Results in the order in which they come.

    Args:
        jobs: what to run.
        make: makes the evaluator of a process; picklable where there are several.
        workers: processes; 1 runs everything in this one.

    Raises:
        EpisodeFailed: of the first job that broke off; the others are cancelled.
        BrokenProcessPool: a worker died.
    """
    if not jobs:
        return
    if workers == 1:
        evaluator = make()
        for job in jobs:
            yield evaluator.run(job)
        return
    # Fresh processes: an OpenGL context does not survive a fork.
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(make,),
    )
    try:
        for future in as_completed([pool.submit(_run, job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
