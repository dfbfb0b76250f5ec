"""How many connections this machine lets one process hold: asked before a load, not during it."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

from leadline.errors import LoadError

# Files that are open beside the connections: spools, journals, libraries, the event loop.
_OTHER_FILES = 64
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

CURES = {
    errno.EMFILE: "too many open files: raise `ulimit -n`, or use more client processes",
    errno.EADDRNOTAVAIL: "no local port is left: widen net.ipv4.ip_local_port_range",
}
"""What to say of an error of the system that is about this machine rather than the server."""


def allow_connections(count: int, *, all_at_once: bool = True) -> None:
    """Raises the limit on open files as far as needed and permitted.

    ``LoadError`` names the amount where it does not suffice; not if so many are only possible.
    """
    needed = count + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        granted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, granted), hard))
        if granted < needed and all_at_once:
            raise LoadError(
                f"{count} connections at once need {needed} open files, {hard} are allowed",
                where="this machine",
                cure=f"run `ulimit -Hn {needed}` as root, or spread them over more processes",
            )
    if all_at_once and count > (ports := _local_ports()):
        raise LoadError(
            f"{count} connections at once to one server need as many ports, there are {ports}",
            where="this machine",
            cure='as root: sysctl -w net.ipv4.ip_local_port_range="1024 65535"',
        )


def _local_ports() -> int:
    try:
        first, last = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        return 1 << 16  # another system than Linux: it will say so itself
    return last - first + 1
