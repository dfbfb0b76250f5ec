"""One contract for every place a server can run: start, alive, stop, and the log it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from leadline.errors import DeployError
from leadline.launch import Endpoint, Launch

OnPhase = Callable[[str], None]


class StartError(DeployError):
    """The server did not become ready; carries what its log and exit say."""

    def __init__(
        self, what: str, *, cause: str, log_tail: tuple[str, ...], exit_status: str | None = None
    ) -> None:
        super().__init__(what, where="start")
        self.cause = cause
        """``exited``, ``timeout`` or ``port_in_use``; in a cluster also ``unplaced`` (no node takes
        it), ``image`` (it cannot be had) and ``refused`` (by the API server)."""
        self.log_tail = log_tail
        self.exit_status = exit_status


class Target(Protocol):
    """Something that runs one server for us. ``stop`` is safe to call twice and after a failure."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Where the server runs and of which image, for the journal."""

    async def start(
        self, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
    ) -> Endpoint:
        """Start and wait until the server is healthy; ``StartError`` otherwise."""

    def exit_status(self) -> str | None:
        """How the server ended (``exit code 1``, ``killed by SIGKILL``), ``None`` while it runs."""

    async def exited(self, within_s: float) -> str | None:
        """``exit_status``, after giving a dying server that long to die."""

    def log_tail(self, lines: int = 40) -> tuple[str, ...]:
        """The last lines of the server's log, word for word but for secrets."""

    async def stop(self) -> None:
        """End the server and everything it started."""


@asynccontextmanager
async def deployed(
    target: Target, launch: Launch, log: Path, timeout_s: float, on_phase: OnPhase
) -> AsyncIterator[Endpoint]:
    """A started server that is stopped whatever happens, Ctrl-C included."""
    try:
        yield await target.start(launch, log, timeout_s, on_phase)
    finally:
        await stop_shielded(target)


async def stop_shielded(target: Target) -> None:
    """Finish stopping even if we are cancelled meanwhile."""
    stopping = asyncio.ensure_future(target.stop())
    try:
        await asyncio.shield(stopping)
    except asyncio.CancelledError:
        await stopping
        raise
