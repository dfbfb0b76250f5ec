"""One process of a server killed while a request is on its way to it, as the kernel would kill it.

The process is stopped first, so that the request cannot be answered before.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from tests.real_engines.leftovers import wait_for

START_S = 600.0
# From the first answer until the next request is certainly out.
_SENT_S = 4.0


class Killing:
    """``meanwhile`` of a campaign: the process of that title, or the server itself, is killed."""

    def __init__(self, title: str = "", check: Callable[[list[int]], None] | None = None) -> None:
        self._title, self._check = title, check
        self._killed_s = 0.0
        self.took_s = 0.0
        """From the kill to the end of the campaign."""

    def __call__(self, leadline: int, runs: Path) -> None:
        assert wait_for(lambda: _has_answered(runs), seconds=START_S), "it never answered"
        children = psutil.Process(leadline).children()  # the sampler of this machine is another
        server = max(children, key=lambda child: len(child.children(recursive=True)))
        family = server.children(recursive=True)
        if self._check:
            self._check([process.pid for process in family])
        victim = _titled(family, self._title) if self._title else server
        os.kill(victim.pid, signal.SIGSTOP)
        time.sleep(_SENT_S)
        os.kill(victim.pid, signal.SIGKILL)
        self._killed_s = time.monotonic()

    def ended(self) -> None:
        self.took_s = time.monotonic() - self._killed_s


def _has_answered(runs: Path) -> bool:
    return any(path.stat().st_size for path in runs.rglob("records.jsonl"))


def _titled(family: list[psutil.Process], title: str) -> psutil.Process:
    (found,) = [one for one in family if " ".join(one.cmdline()).startswith(title)]
    return found
