"""The processes of a server that it cannot do without, and whether one of them is gone.

A server can outlive them: SGLang's never looks after its scheduler, and goes on to take requests.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil


class Workers:
    """Those below one server whose title begins as its engine's do; none without such a title."""

    def __init__(self, server: int, title: str) -> None:
        self._server = psutil.Process(server) if title else None
        self._title = title
        self._known: dict[psutil.Process, str] = {}

    def look(self) -> None:
        """Take note of those that are there: they get their titles while the server starts."""
        if self._server is None:
            return
        with suppress(psutil.Error):
            for process in self._server.children(recursive=True):
                self._note(process)

    def lost(self) -> str | None:
        """One that is gone while the server lives, and how it ended, where the kernel tells."""
        gone = next((process for process in self._known if not is_alive(process)), None)
        if gone is None or self._server is None or not is_alive(self._server):
            return None
        return f"its process {self._known[gone]} (pid {gone.pid}) {_word_end(gone.pid)}"

    def _note(self, process: psutil.Process) -> None:
        """A fork has its parent's title until it has one of its own: such helpers come and go."""
        with suppress(psutil.Error):
            title, parent = _read_title(process), process.parent()
            if title.startswith(self._title) and parent and title != _read_title(parent):
                self._known[process] = title


def _read_title(process: psutil.Process) -> str:
    return " ".join(process.cmdline()).strip()


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def word_exit(code: int) -> str:
    """Of ``os.waitstatus_to_exitcode`` and of ``Process.returncode``."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _word_end(pid: int) -> str:
    """Its parent alone can ask; until that does, the last field of its record holds the answer."""
    with suppress(OSError, ValueError):
        record = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        code = os.waitstatus_to_exitcode(int(record.rsplit(maxsplit=1)[1]))
        return f"was {word_exit(code)}" if code < 0 else f"ended: {word_exit(code)}"
    return "is gone"
