"""What a killed Leadline may have left running of one run, and how it is told from all else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from leadline.deploy.shared_memory import mapped_segments, unlink_unused

OWNER = "LEADLINE_OWNER"
"""A variable of every server we start, and so of all that it starts: the id of its run. A pid may
belong to another program by the time that it is read again; this cannot."""
_STOP_S = 10.0


def end_leftovers(owner: str, segments: Iterable[str] = ()) -> list[str]:
    """End every process of that owner; ``pid (name)`` of what still ran.

    ``segments``: files of shared memory that its servers had; they go if nobody has them mapped.
    """
    left = list(_owned(owner))
    names = [f"pid {process.pid} ({_name(process)})" for process in left]
    files = mapped_segments(process.pid for process in left) | {Path(name) for name in segments}
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, _STOP_S)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, _STOP_S)
    unlink_unused(files, {process.pid for process in left})
    return names


def _owned(owner: str) -> Iterator[psutil.Process]:
    mark = f"{OWNER}={owner}".encode()
    for pid in set(psutil.pids()) - {os.getpid()}:
        with suppress(OSError, psutil.Error):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                yield psutil.Process(pid)


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return process.name()
    return "ended"
