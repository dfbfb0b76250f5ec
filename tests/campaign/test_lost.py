"""A server that loses a process which it needs: nobody waits for what cannot come any more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from leadline.campaign import serving, wave
from leadline.campaign.serving import Served
from leadline.campaign.wave import Wave
from leadline.errors import LoadError

TOLD = "its process sglang::scheduler (pid 7) was killed by SIGKILL"


class Server:
    """A target that is lost at the third look."""

    def __init__(self, looks: int = 3) -> None:
        self.looks = looks

    def exit_status(self) -> str | None:
        self.looks -= 1
        return None if self.looks > 0 else TOLD


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_GUARD_S", 0.01)
    monkeypatch.setattr(serving, "_LAST_WORDS_S", 0.05)


def served(target: Any) -> Served:
    nothing: Any = None
    return Served(nothing, nothing, nothing, None, target)


async def wait_end(target: Any, limit_s: float = 10) -> str:
    async with asyncio.timeout(limit_s):
        return await served(target).wait_end()


def test_the_end_of_a_server_of_our_own_is_told_with_its_reason() -> None:
    assert asyncio.run(wait_end(Server())) == TOLD


def test_a_server_of_somebody_else_is_not_looked_after() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(wait_end(None, 0.5))


@pytest.mark.parametrize(("lasts_s", "looks"), [(60, 3), (0.02, 1000)])
def test_a_load_ends_with_its_server_and_not_before(
    monkeypatch: pytest.MonkeyPatch, lasts_s: float, looks: int
) -> None:
    ended = []

    async def load(*_: object) -> list[Any]:
        try:
            await asyncio.sleep(lasts_s)
        finally:
            ended.append(True)
        return []

    monkeypatch.setattr(wave, "load_closed", load)
    monkeypatch.setattr(wave, "worst", lambda _: SimpleNamespace(model_copy=lambda **_: "strain"))
    nothing: Any = SimpleNamespace(tls=None)
    sender: Any = SimpleNamespace(served=served(Server(looks)))

    async def run() -> Any:
        with Wave(sender, nothing, nothing, ()) as one:
            async with asyncio.timeout(5):
                return await one.run(2, ())

    if lasts_s < 1:
        assert asyncio.run(run()) == "strain"
    else:
        with pytest.raises(LoadError, match="the server ended: its process sglang::scheduler"):
            asyncio.run(run())
    assert ended
