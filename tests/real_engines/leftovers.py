"""What the servers of one test had in shared memory, and what of it is there when they are gone.

Only that: other engines run on the same machine, and make and leave segments of their own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leadline.deploy.shared_memory import mapped_segments

_PERIOD_S = 1.0


class Leftovers:
    def __init__(self, servers: Callable[[], list[int]]) -> None:
        self._servers = servers
        self._seen: dict[Path, int] = {}

    def note(self) -> None:
        for path in mapped_segments(self._servers()):
            if path.exists():
                self._seen[path] = path.stat().st_ino

    def processes(self) -> list[int]:
        """Those that have not ended within a few seconds."""
        wait_for(lambda: not self._servers())
        return self._servers()

    def segments(self) -> list[str]:
        return [path.name for path, inode in self._seen.items() if _is_there(path, inode)]


@contextmanager
def watching(servers: Callable[[], list[int]]) -> Iterator[Leftovers]:
    """Looks each second at what the servers, by process id, have mapped."""
    leftovers, stop = Leftovers(servers), threading.Event()

    def watch() -> None:
        while not stop.wait(_PERIOD_S):
            leftovers.note()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield leftovers
    finally:
        stop.set()
        thread.join()


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return result


def _is_there(path: Path, inode: int) -> bool:
    """Names come again: another server's segment of the same name is none of ours."""
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False
