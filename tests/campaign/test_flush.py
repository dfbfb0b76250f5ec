"""A cache is emptied before a cold request, and not waited for when nobody can empty it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

from leadline.campaign.request import Sender
from leadline.errors import EngineError

Act = Callable[..., Awaitable[Any]]


async def for_ever(*_: Any) -> Any:
    await asyncio.Event().wait()


async def ended() -> str:
    return "its process sglang::scheduler was killed by SIGKILL"


async def refuse(*_: Any) -> None:
    raise EngineError("HTTP 400", where="flush", cure="wait")


def flush(asked: Act, end: Act, limit_s: float = 5) -> None:
    server = SimpleNamespace(flush=asked)
    served = SimpleNamespace(target=object(), engine=None, server=server, wait_end=end)
    sender = Sender(*cast("Any", (None, served, "one", 1, None)))
    asyncio.run(asyncio.wait_for(sender.flush(), limit_s))


def test_a_server_without_its_scheduler_is_not_waited_for() -> None:
    flush(for_ever, ended)


def test_a_refusal_is_no_failure_the_proof_of_cold_decides() -> None:
    flush(refuse, for_ever)


def test_what_is_slow_is_waited_for() -> None:
    done = []

    async def slow(*_: Any) -> None:
        await asyncio.sleep(0.05)
        done.append(True)

    flush(slow, for_ever)
    assert done
