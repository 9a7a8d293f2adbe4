"""The processes of one run: started from the Procfile, watched until ready, gone afterwards.

honcho starts every entry of the Procfile in a session of its own, so killing honcho's process
group would leave them behind. This process therefore becomes the "subreaper" of its descendants:
whatever is orphaned below it becomes its child, can be found, and is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from gen2act_demo.ports import HOST, Ports

# What the process manager logs when one of its processes ends.
_FIRST_END = re.compile(r"(?P<name>\w+)\.1 stopped \(rc=(?P<status>-?\d+)\)")

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SystemFailed(Exception):
    """The system did not become ready, or a part of it ended; the message says which and why."""


@dataclass(frozen=True)
class Check:
    """One thing that must be true before the system is ready."""

    name: str
    ready: Callable[[], str]  # "" when ready, else what is missing


def adopt_orphans() -> None:
    """Makes orphaned descendants children of this process (Linux; elsewhere nothing happens)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_with_parent() -> None:
    """Runs in the child: a demo that is itself killed takes its process manager along."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not interrupt the ending of the processes."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class System:
    """The running system: `start()`, `wait_until_ready()`, `stop()`; also a context manager.

    Args:
        root: repository root, where the Procfile is.
        ports: where everything listens.
        log: file that gets every process's output.
        entries: names of the Procfile's entries to start; all by default.
        environment: more variables, e.g. settings of the services.
    """

    def __init__(
        self,
        root: Path,
        ports: Ports,
        log: Path,
        *,
        entries: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.ports = ports
        self.log = log
        self._root = root
        self._entries = list(entries)
        self._environment = dict(environment or {})
        self._manager: subprocess.Popen[bytes] | None = None
        self._others: set[psutil.Process] = set()  # children that are not of this run

    def __enter__(self) -> System:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with _undisturbed():
            self.stop()

    def start(self) -> None:
        """Starts the process manager. Returns at once."""
        adopt_orphans()
        self._others = set(psutil.Process().children(recursive=True))
        data = self.log.parent / "data"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            **self.ports.environment(data),
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            **self._environment,
        }
        with self.log.open("wb") as output:
            self._manager = subprocess.Popen(
                [
                    *(sys.executable, "-m", "honcho", "--no-colour"),
                    *("-f", str(self._root / "Procfile"), "-d", str(self._root)),
                    *(
                        "-e",
                        os.devnull,
                    ),  # a person's .env is for `make up`; it may name other ports
                    *("start", *self._entries),
                ],
                cwd=self._root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process only, which then stops all
                preexec_fn=_end_with_parent,
            )

    def wait_until_ready(self, checks: Iterable[Check], *, timeout_s: float) -> None:
        """Waits for every check.

        Raises:
            SystemFailed: naming the first thing still missing and what the log says about it.
        """
        deadline = time.monotonic() + timeout_s
        for check in checks:
            while missing := check.ready():
                self.raise_if_ended()
                if time.monotonic() > deadline:
                    raise SystemFailed(
                        f"{check.name} is not ready after {timeout_s:.0f} s: {missing}\n"
                        + self.log_tail(check.name)
                    )
                time.sleep(0.1)

    def raise_if_ended(self) -> None:
        """Raises SystemFailed if the process manager is gone (it ends when any process does)."""
        if self._manager is None or self._manager.poll() is None:
            return
        first = _FIRST_END.search(self.log.read_text(errors="replace"))
        name = first["name"] if first else ""
        what = f"{name} ended (exit status {first['status']})" if first else "the system ended"
        raise SystemFailed(f"{what}; it said:\n{self.log_tail(name)}")

    def log_tail(self, name: str = "", lines: int = 15) -> str:
        """The last lines of the log, of one process if named."""
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        of_name = [line for line in text if f" {name}.1 " in line] if name else []
        return "\n".join(f"  {line}" for line in (of_name or text)[-lines:])

    def processes(self) -> list[psutil.Process]:
        """Every process of this run that is still there, orphans included."""
        descendants = psutil.Process().children(recursive=True)
        return [process for process in descendants if process not in self._others]

    def stop(self, *, grace_s: float = 12.0) -> int:
        """Ends every process of the run; returns how many had to be killed.

        SIGTERM to the process manager lets every service drain; what is left after `grace_s` is
        killed. Returns only when none is left.
        """
        if self._manager is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._manager.terminate()
        psutil.wait_procs(self.processes(), timeout=grace_s)
        killed: set[psutil.Process] = set()
        # Killing a process hands its children to this one: again until there are none.
        while left := self.processes():
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.status() != psutil.STATUS_ZOMBIE:
                        process.kill()
                        killed.add(process)
            psutil.wait_procs(left, timeout=5.0)  # also collects the dead among the orphans
        self._manager.wait()
        self._manager = None
        return len(killed)


def responds(name: str, url: str) -> Check:
    """Ready when `url` answers 2xx."""

    def ready() -> str:
        try:
            response = httpx.get(url, timeout=2.0, trust_env=False)
        except httpx.HTTPError as error:
            return f"{url}: {error or type(error).__name__}"
        return "" if response.is_success else f"{url}: {response.status_code} {response.text[:200]}"

    return Check(name, ready)


def service_checks(ports: Ports) -> list[Check]:
    """Readiness of the three services, in the order they need each other."""
    return [
        responds("videogen", f"http://{HOST}:{ports.videogen_metrics}/readyz"),
        responds("policy", f"http://{HOST}:{ports.policy_metrics}/readyz"),
        responds("orchestrator", f"{ports.http_url}/readyz"),
    ]
