"""The host: memory, shared memory, limits, disk, ports, clock."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from leadline.preflight.check import Check, Needs, State
from leadline.preflight.models import cached_bytes
from leadline.units import GIB, show_bytes

_FILES = 65536
_UP_PORT = 8000
"""Of ``leadline up`` where none is named; a campaign takes one that is free."""
_SHM = Path("/dev/shm")  # noqa: S108 - where Linux shows it
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_TIMEX_BYTES = 512  # more than any struct timex


def check_machine(needs: Needs) -> Iterator[Check]:
    yield _memory(needs)
    yield _shared_memory(needs)
    yield from _limits()
    yield _disk(needs)
    yield from (_port(port, named=True) for port in needs.ports)
    if not needs.ports:
        yield _port(_UP_PORT, named=False)
    yield _clock()


def _memory(needs: Needs) -> Check:
    memory = psutil.virtual_memory()
    found = f"{show_bytes(memory.available)} of {show_bytes(memory.total)} available"
    if not needs.host_bytes:
        return Check("host memory", "ok", found)
    found += f", the plan needs {show_bytes(needs.host_bytes)}"
    if memory.available >= needs.host_bytes:
        return Check("host memory", "ok", found)
    state: State = "fail" if memory.total < needs.host_bytes else "warn"
    return Check("host memory", state, found, "free memory, use a larger host, or lower swap_space")


def _shared_memory(needs: Needs) -> Check:
    """A container has its own; a process of this machine uses /dev/shm."""
    try:
        size = shutil.disk_usage(_SHM)
    except OSError:
        return Check("shared memory", "absent", f"{_SHM} is not there")
    found = f"{show_bytes(size.free)} of {show_bytes(size.total)} free in {_SHM}"
    if "process" in needs.targets and size.free < needs.shm_bytes:
        cure = f"mount -o remount,size={needs.shm_bytes // GIB}g {_SHM}"
        return Check("shared memory", "fail", found, cure)
    return Check("shared memory", "ok", found)


def _limits() -> Iterator[Check]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = files == resource.RLIM_INFINITY or files >= _FILES
    cure = "" if enough else f"ulimit -n {_FILES} (each streamed request holds a socket)"
    yield Check("open files", "ok" if enough else "warn", f"limit {_limit(files)}", cure)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    free = locked == resource.RLIM_INFINITY
    cure = "" if free else "ulimit -l unlimited (pinned memory of processes; containers get it)"
    yield Check("locked memory", "ok" if free else "warn", f"limit {_limit(locked)}", cure)


def _disk(needs: Needs) -> Check:
    """For processes; containers keep theirs in volumes of the engine."""
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    found = f"{show_bytes(free)} free at {folder}"
    owed = sum(max(0, size - cached_bytes(name)) for name, size in needs.weights.items())
    if "process" in needs.targets and owed > free:
        found += f", weights of {show_bytes(owed)} are still to come"
        return Check("disk for weights", "fail", found, "set HF_HOME to a larger disk, or free it")
    return Check("disk for weights", "ok", found)


def _port(port: int, *, named: bool) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            state: State = "fail" if named else "warn"
            cure = "leadline status shows what is up; stop its holder or change target.port"
            return Check(f"port {port}", state, str(error.strerror), cure)
    return Check(f"port {port}", "ok", "free on 127.0.0.1")


def _clock() -> Check:
    """Whether the kernel says that something keeps it on time; read-only (modes 0)."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(
            ctypes.create_string_buffer(_TIMEX_BYTES)
        )
    except (OSError, AttributeError):
        state = -1
    if state == -1:
        return Check("clock", "absent", "the kernel does not tell")
    if state == _UNSYNCHRONISED:
        cure = "run chrony or systemd-timesyncd: tokens and TLS are refused by a wrong clock"
        return Check("clock", "warn", "nothing keeps it on time", cure)
    return Check("clock", "ok", "synchronised")


def _limit(value: int) -> str:
    return "none" if value == resource.RLIM_INFINITY else f"{value:,}"
