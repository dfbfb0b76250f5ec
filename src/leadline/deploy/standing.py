"""Services that stay up after the command that started them: one contract for every platform."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from leadline.deploy.target import OnPhase
from leadline.launch import Endpoint, Launch

Check = Callable[[Endpoint], Awaitable[None]]
"""What must hold of a healthy server before it is left alone; raises ``LeadlineError``."""


@dataclass(frozen=True)
class Standing:
    """One service as its platform sees it."""

    name: str
    owner: str
    """``up``, the id of a run, or empty for what a rendered file started."""
    state: str
    """In the platform's words: ``running``, ``exited``, …"""
    url: str | None
    """Where it is reached from this machine."""
    image: str
    engine: str = ""
    model: str = ""
    restarts: int = 0
    exit_status: str | None = None
    out_of_memory: bool = False
    started: str = ""
    pid: int | None = None
    """Of its first process, where that is one of this machine."""

    @property
    def is_alive(self) -> bool:
        return self.state in ("running", "restarting", "paused")


class Services(Protocol):
    """What ``leadline up``, ``status``, ``logs`` and ``down`` ask of a platform."""

    def services(self) -> list[Standing]:
        """All that Leadline started, whether it runs or not."""

    async def up(
        self, launch: Launch, engine: str, timeout_s: float, on_phase: OnPhase, check: Check
    ) -> Endpoint:
        """A service that is ready, started now or found as it should be.

        Whatever goes wrong, a cancellation included: what this call started is gone after it.
        """

    def log(self, name: str, *, follow: bool, lines: int) -> Iterator[bytes]:
        """The last lines of a service's log, and those that come."""

    def down(self, name: str, *, volumes: bool) -> list[str]:
        """Take a service away; what went and what stayed, in words."""
