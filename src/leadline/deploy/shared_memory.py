"""What a killed engine leaves behind in the machine's shared memory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux shows it
_INODE = re.compile(r" (\d+) +/dev/shm/")


def mapped_segments(pids: Iterable[int]) -> set[Path]:
    """Files of shared memory that these processes have mapped.

    By inode: the C library maps a semaphore under a name that it removes, and links it to another.
    """
    inodes: set[int] = set()
    for pid in pids:
        with suppress(OSError):
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
            inodes |= {int(number) for number in _INODE.findall(maps)}
    return {path for number, path in _named_segments() if number in inodes}


def unlink_unused(segments: set[Path], ours: set[int]) -> None:
    """Those that only our own processes have mapped, who are killed by now."""
    left = {path for path in segments if path.exists()}
    for path in left - mapped_segments(set(psutil.pids()) - ours) if left else ():
        with suppress(OSError):
            path.unlink()


def _named_segments() -> list[tuple[int, Path]]:
    found = []
    for path in _FOLDER.iterdir() if _FOLDER.is_dir() else ():
        with suppress(OSError):  # gone meanwhile
            found.append((path.stat().st_ino, path))
    return found
