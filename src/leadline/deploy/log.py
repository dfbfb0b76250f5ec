"""The log of a server as it comes: redacted, written to its file, its last lines at hand."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from leadline.deploy.target import OnPhase
from leadline.launch import Launch

Redact = Callable[[str], str]

LINE_BYTES = 64 * 1024
"""Longest line kept; an engine that prints a whole prompt must not fill the disk."""
TAIL_LINES = 400
_CATCH_UP_S = 10
_POLL_S = 0.02
# A bar of tqdm, as Python engines draw it: 5/50 [00:10<01:30, 2.00s/it].
_BAR = re.compile(r"\b(?P<done>\d+)/(?P<of>\d+) \[[\d:]+<(?P<left>[\d:]+|\?)")


class ServerLog:
    """Takes lines from one writer; the tail may be read from anywhere."""

    def __init__(self, launch: Launch, path: Path, redact: Redact, on_phase: OnPhase) -> None:
        self._file = path.open("ab", buffering=0)
        self._phases = launch.phases
        self._redact = redact
        self._on_phase = on_phase
        self._phase = ""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._taken_bytes = 0

    def close(self) -> None:
        self._file.close()

    def take(self, line: bytes) -> None:
        text = self._redact(line.decode(errors="replace"))
        with suppress(OSError):  # on a full disk the server is still read, or it would stand still
            self._file.write(text.encode())
        if text.strip():
            self._tail.append(text.rstrip("\r\n"))
            self._note_phase(text)
        self._taken_bytes += len(line)

    async def catch_up(self, said: Awaitable[bytes], is_over: Callable[[], bool]) -> None:
        """Until the whole lines of ``said``, all that there is so far, were taken, or for 10 s.

        What a server said before it was ready is there then, though a busy machine hands it late.
        ``is_over``: no more will come.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP_S):
                text = await said
                whole_bytes = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
                while self._taken_bytes < whole_bytes and not is_over():  # noqa: ASYNC110  (no event tells)
                    await asyncio.sleep(_POLL_S)

    def tail(self, lines: int) -> tuple[str, ...]:
        return tuple(self._tail)[-lines:]

    def _note_phase(self, line: str) -> None:
        shown = read_phase(line, self._phases)
        if shown and shown != self._phase:
            self._phase = shown
            self._on_phase(shown)


def read_phase(line: str, phases: Sequence[tuple[str, str]]) -> str | None:
    """What the engine does by this line of its log, with how far it is where it says so."""
    doing = next((phase for text, phase in phases if text in line), None)
    return doing and doing + _word_bar(line)


async def split_lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Lines with their ends, as they come; each redrawing of a progress bar is one."""
    rest = b""
    async for piece in pieces:
        *lines, rest = re.split(rb"(?<=[\r\n])", rest + piece)
        for line in lines:
            yield line
        if len(rest) > LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _word_bar(line: str) -> str:
    """``: 5 of 50, 01:30 left``, by the engine's own estimate."""
    bars = list(_BAR.finditer(line))
    if not bars:
        return ""
    done, of, left = bars[-1].group("done", "of", "left")
    return f": {done} of {of}" + (f", {left} left" if left not in ("?", "00:00") else "")
