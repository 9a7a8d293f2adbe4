"""Which ports one run of the system uses, and the environment that tells the Procfile."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """TCP ports of one running system; the defaults are those of the Procfile."""

    redis: int = 6379
    videogen: int = 50051
    videogen_metrics: int = 9101
    policy: int = 50052
    policy_metrics: int = 9102
    gateway: int = 50053
    http: int = 8000

    def environment(self, data_dir: Path) -> Mapping[str, str]:
        """Variables the Procfile and the services read."""
        return {
            "REDIS_PORT": str(self.redis),
            "VIDEOGEN_PORT": str(self.videogen),
            "VIDEOGEN_METRICS_PORT": str(self.videogen_metrics),
            "POLICY_PORT": str(self.policy),
            "POLICY_METRICS_PORT": str(self.policy_metrics),
            "GATEWAY_PORT": str(self.gateway),
            "DATA_DIR": str(data_dir),
            "GEN2ACT_HOST": HOST,
            "GEN2ACT_REDIS_URL": f"redis://{HOST}:{self.redis}/0",
            "GEN2ACT_VIDEOGEN": f"{HOST}:{self.videogen}",
            "GEN2ACT_POLICY": f"{HOST}:{self.policy}",
            "GEN2ACT_HTTP_PORT": str(self.http),
            "GEN2ACT_GATEWAY_PORT": str(self.gateway),
        }

    @property
    def http_url(self) -> str:
        return f"http://{HOST}:{self.http}"


def _bound(wanted: int) -> socket.socket:
    """A socket on the wanted port, or on any other if it is taken or 0."""
    for port in (wanted, 0):
        probe = socket.socket()
        # As servers do: a port whose last connections still linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            probe.close()
        else:
            return probe
    raise OSError(f"no free TCP port on {HOST}")


def choose(*, prefer: Ports | None = None) -> Ports:
    """Ports that are free now: the preferred ones where possible, others picked by the kernel.

    With `prefer=None` all of them are picked by the kernel. They are all held open until the last
    is chosen, so that they differ; another program may still take one before it is used.
    """
    held: list[socket.socket] = []
    try:
        for field in fields(Ports):
            held.append(_bound(getattr(prefer, field.name) if prefer is not None else 0))
        return Ports(*(probe.getsockname()[1] for probe in held))
    finally:
        for probe in held:
            probe.close()
