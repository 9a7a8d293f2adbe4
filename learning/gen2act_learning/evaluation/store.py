"""Results on disk: one JSON line per episode, so that an interrupted evaluation goes on."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gen2act_sim

from .errors import ResultsMismatch

Key = tuple[str, str, int]  # case id, video, seed


@dataclass(frozen=True)
class StageResult:
    """How one stage ended, judged by the simulator."""

    task: str
    success: bool  # at the end
    success_once: bool
    terminated: bool  # by the policy's own terminate, not by the tick budget
    ticks: int
    shown: str = ""  # the task in the human video; empty where there was none
    made_by: str = ""  # what made that video
    reason: str = ""  # why the stage was not run


@dataclass(frozen=True)
class EpisodeResult:
    """One seed of one case: its stages up to the first that failed."""

    case: str
    video: str
    seed: int
    stages: tuple[StageResult, ...]

    @property
    def key(self) -> Key:
        return self.case, self.video, self.seed


class ResultFile:
    """A header line and one line per episode, each written as soon as it is known.

    Args:
        path: made if it is not there; a torn last line (the process was killed) is dropped.
        header: the conditions that decide the results.

    Raises:
        ResultsMismatch: the file was made under other conditions, or is no results file.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.results: dict[Key, EpisodeResult] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.decode().splitlines()
        if lines:
            self._check(path, lines[0], header)
            for line in lines[1:]:
                raw = json.loads(line)
                stages = tuple(StageResult(**stage) for stage in raw.pop("stages"))
                result = EpisodeResult(**raw, stages=stages)
                self.results[result.key] = result
        else:
            whole = (json.dumps(dict(header)) + "\n").encode()
        if whole != data:
            path.write_bytes(whole)
        self._path = path

    @staticmethod
    def _check(path: Path, line: str, header: Mapping[str, Any]) -> None:
        try:
            found = dict(json.loads(line))
        except (TypeError, ValueError) as error:
            raise ResultsMismatch(f"{path} is no results file: {error}") from error
        keys = [key for key in {**found, **header} if found.get(key) != header.get(key)]
        if keys:
            differs = "; ".join(f"{k}: {found.get(k)!r} there, {header.get(k)!r} now" for k in keys)
            raise ResultsMismatch(f"{path} has other results ({differs}); choose another --out")

    def add(self, result: EpisodeResult) -> None:
        """Keeps a result, on disk when this returns."""
        self.results[result.key] = result
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")


@functools.cache
def simulator_version() -> str:
    """sha256 (hex) of the simulator's sources: other sources, other results.

    Read once: what a process has loaded does not change with the files.
    """
    digest = hashlib.sha256()
    assert gen2act_sim.__file__ is not None  # a regular package
    for path in sorted(Path(gen2act_sim.__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
