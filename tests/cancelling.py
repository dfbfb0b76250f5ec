"""Cancels what has begun, as Ctrl-C does, once or several times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest


async def cancel_begun(
    work: Callable[[asyncio.Event], Awaitable[None]], *again_after_s: float
) -> None:
    """When it has set the event; and again after each of these times. It must end as cancelled."""
    begun = asyncio.Event()
    task = asyncio.ensure_future(work(begun))
    await begun.wait()
    task.cancel()
    for pause_s in again_after_s:
        await asyncio.sleep(pause_s)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
