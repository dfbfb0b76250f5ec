"""Who holds a port of this machine."""

from __future__ import annotations

from contextlib import suppress

import psutil


def word_holder(port: int) -> tuple[str, ...]:
    """Which process listens there, where we may know."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.pid and getattr(connection.laddr, "port", None) == port:
                return (f"held by pid {connection.pid} ({psutil.Process(connection.pid).name()})",)
    return ()
