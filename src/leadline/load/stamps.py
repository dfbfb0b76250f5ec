"""When bytes arrived, by the kernel: right however late this process comes to read them."""

from __future__ import annotations

import socket
import struct
import sys
from time import perf_counter_ns, time_ns

# As on x86-64 and ARM64; Python has no name for it.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_NS = 1_000_000_000

STAMP_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
"""Room for a stamp beside the data, for ``recvmsg``."""
Notes = list[tuple[int, int, bytes]]


def has_stamps() -> bool:
    """Only Linux stamps what arrives by TCP."""
    return sys.platform == "linux"


def stamp_arrivals(sock: socket.socket) -> None:
    """Have the kernel stamp what will arrive, where it does."""
    if has_stamps():
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def arrival_ns(notes: Notes, earliest_ns: int) -> int:
    """On ``perf_counter_ns``'s clock: the stamp beside the data, or now if there is none.

    The kernel stamps in calendar time: should that be set meanwhile, ticks still only grow, and
    never into the future.
    """
    now_ns = perf_counter_ns()
    if not notes:
        return now_ns
    seconds, nanoseconds = _TIMESPEC.unpack(notes[0][2])
    t_ns: int = seconds * _NS + nanoseconds - time_ns() + now_ns
    return max(min(t_ns, now_ns), earliest_ns)
