"""Services in containers: one contract for every platform that runs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from leadline.deploy.target import OnPhase, Target
from leadline.launch import Endpoint
from leadline.render.service import Service

UP = "up"
"""Owner of the services that stay; any other owner is a run."""
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
    """Its lasting address; of a cluster it can be asked only from within."""
    image: str
    engine: str = ""
    model: str = ""
    restarts: int = 0
    exit_status: str | None = None
    out_of_memory: bool = False
    started: str = ""
    pid: int | None = None
    """Of its first process, where that is one of this machine."""
    waits: str = ""
    """What it waits for before it can run, in the platform's words."""

    @property
    def is_alive(self) -> bool:
        """As far as its platform tells; one without a platform is asked."""
        return self.state in ("running", "restarting", "paused", "")


class Shown(Protocol):
    """What ``leadline status`` asks of a platform."""

    def services(self) -> list[Standing]:
        """All that Leadline started, whether it runs or not."""

    def reach(self, standing: Standing) -> AbstractAsyncContextManager[str | None]:
        """Its address as this machine may ask it for the length of the block."""

    def log(
        self, name: str, *, follow: bool = False, lines: int = 0, previous: bool = False
    ) -> Iterator[bytes]:
        """The last lines of a service's log (0 for all), and with ``follow`` those that come.

        With ``previous`` of the container before, where the platform starts a new one for it.
        """


class Services(Shown, Protocol):
    """What campaigns, ``leadline up``, ``logs`` and ``down`` ask of it besides."""

    def target(self, service: Service, owner: str) -> Target:
        """What runs this service for one run."""

    async def remove_owned(self, owner: str) -> list[str]:
        """What a killed Leadline left of this run is taken away; the names of what was there."""

    async def up(self, service: Service, port: int, on_phase: OnPhase, check: Check) -> Endpoint:
        """A service that is ready, started now or found as it should be.

        Whatever goes wrong, a cancellation included: what this call started is gone after it.
        """

    def down(self, name: str, *, volumes: bool) -> list[str]:
        """Take a service away; what went and what stayed, in words."""
