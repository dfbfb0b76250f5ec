"""A script that loads a model and tells its results as JSON lines among the engine's own words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from leadline.deploy.process import ProcessTarget
from leadline.deploy.target import OnPhase, StartError, stop_shielded
from leadline.launch import Launch

_MARK = "leadline.offline/1"
_POLL_S = 0.2


class ScriptTarget(ProcessTarget):
    """Runs one script; ended as a server is, with all that it started."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def begin(self, launch: Launch, log: Path, on_phase: OnPhase) -> None:
        await self._begin(launch, log, on_phase)

    async def next_fact(self, timeout_s: float) -> dict[str, Any]:
        """The next line of results. ``StartError`` if none comes in time, or ever."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._told.empty():
            if self.exit_status() is not None:
                await self._drain_log()
                if self._told.empty():
                    raise self._start_error(f"the script ended: {self.exit_status()}", "exited")
            elif asyncio.get_running_loop().time() > deadline:
                raise self._start_error(f"nothing within {timeout_s:g} s", "timeout")
            else:
                await asyncio.sleep(_POLL_S)
        return self._told.get_nowait()

    def failed(self, what: str) -> StartError:
        """For a script that lives, and says itself that it did not load the model."""
        return self._start_error(what, "exited")

    def _heed(self, line: bytes) -> None:
        if _MARK.encode() in line:
            with suppress(orjson.JSONDecodeError):
                self._told.put_nowait(orjson.loads(line))


def kind_of(fact: dict[str, Any]) -> str:
    """``load`` or ``row``."""
    return str(fact.get(_MARK))


@asynccontextmanager
async def scripted(
    target: ScriptTarget, launch: Launch, log: Path, on_phase: OnPhase
) -> AsyncIterator[ScriptTarget]:
    """A running script that is ended whatever happens, Ctrl-C included."""
    try:
        await target.begin(launch, log, on_phase)
        yield target
    finally:
        await stop_shielded(target)
