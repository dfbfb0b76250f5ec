"""What starts an engine and how to reach it, as pure data: engines fill it in, targets run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Launch:
    """Everything a target needs to start one server."""

    argv: tuple[str, ...]
    port: int
    served_model: str
    env: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    health_path: str = "/health"
    phases: tuple[tuple[str, str], ...] = ()
    """(text of a log line, what the engine is then doing), in order of start-up."""

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True)
class Endpoint:
    """A server that answers."""

    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with each request; may hold credentials, so it is never journaled."""
