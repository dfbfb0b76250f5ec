"""Children that end with their input."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from leadline.children import end_with_input


@pytest.mark.parametrize(
    ("script", "within_s", "code"),
    [
        ("import sys; sys.stdin.read()", 10, 0),
        ("import time; time.sleep(60)", 0.1, -signal.SIGKILL),
    ],
)
def test_a_child_ends_when_it_is_told_to_or_is_killed(
    script: str, within_s: float, code: int
) -> None:
    async def work() -> int | None:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdin=PIPE)
        await end_with_input(child, within_s)
        return child.returncode

    assert asyncio.run(work()) == code
