"""The looks at a server's gauges while a request waits long for its first token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leadline.campaign.request import Sender
from leadline.errors import EngineError
from leadline.load.stream import Patience

Gauges = Callable[[Any], Awaitable[dict[str, float]]]


async def answer(_: Any) -> dict[str, float]:
    return {"running": 1}


async def answer_none(_: Any) -> dict[str, float]:
    return {}


async def hang(_: Any) -> dict[str, float]:
    await asyncio.sleep(60)
    return {}


async def refuse(_: Any) -> dict[str, float]:
    raise EngineError("HTTP 500", where="/metrics", cure="wait")


async def endless() -> str:
    await asyncio.sleep(60)
    return ""


@pytest.mark.parametrize(
    ("gauges", "seen"),
    [(answer, {"running": 1}), (answer_none, None), (hang, {}), (refuse, {})],
)
def test_what_a_look_saw_is_kept_and_that_it_was_not_answered(
    gauges: Gauges, seen: dict[str, float] | None
) -> None:
    asked = []

    async def ask(engine: Any) -> dict[str, float]:
        asked.append(engine)
        return await gauges(engine)

    server = SimpleNamespace(gauges=ask)
    served = SimpleNamespace(waiting=["of before"], server=server, engine=None, wait_end=endless)
    sender = Sender(*cast("Any", (None, served, "one", 1, None)))

    async def wait() -> None:
        async with sender._watching(Patience(first_token_s=0.2, between_tokens_s=1)):
            while len(asked) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # longer than a look may take

    asyncio.run(asyncio.wait_for(wait(), 30))
    assert served.waiting == ([] if seen is None else [seen] * 3)
