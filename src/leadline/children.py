"""Processes of our own that end when their input does, so never after us."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from contextlib import suppress


async def end_with_input(child: Process, within_s: float) -> None:
    """One that takes longer is killed, and also one whose end is no longer waited for."""
    assert child.stdin  # noqa: S101
    child.stdin.close()
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), within_s)
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
