"""Where requests go: the address looked up, TLS made ready, the head written, before any clock."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from leadline.errors import LoadError

_DEFAULT_PORTS = {"http": 80, "https": 443}

Address = tuple[socket.AddressFamily, Any]
Bytes = bytes | memoryview


class Origin(NamedTuple):
    """A server's address, looked up once, so that no request's time holds a name server's."""

    url: str
    host: str
    port: int
    path: str
    """What stands before every route."""
    addresses: tuple[Address, ...]
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        """The ``Host`` header: with the port, unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = _DEFAULT_PORTS["https" if self.tls else "http"]
        return host if self.port == default else f"{host}:{self.port}"


async def resolve(url: str) -> Origin:
    """``LoadError`` for a name that no name server knows. Proxies of the environment are not used:
    they would be measured too.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LoadError(
            f"Cannot connect to host {host}:{port}: {error.strerror or error}",
            where=url,
            cure="check the address",
        ) from error
    return Origin(
        url=url,
        host=host,
        port=port,
        path=parts.path.rstrip("/"),
        addresses=tuple((family, address) for family, _, _, _, address in found),
        tls=ssl.create_default_context() if parts.scheme == "https" else None,
    )


def request_head(origin: Origin, route: str, headers: Mapping[str, str], body_bytes: int) -> bytes:
    """The head of a POST whose connection serves this one request.

    ``LoadError`` for a header that would break the head in two.
    """
    fields = {
        "Host": origin.authority,
        "Content-Type": "application/json",
        "Accept": "*/*",
        **headers,
        "Content-Length": str(body_bytes),
        "Connection": "close",
    }
    for name, value in fields.items():
        if "\r" in value or "\n" in value:
            raise LoadError(
                f"the value of the header {name} holds a line end",
                where=origin.url,
                cure="check the API key: it must be one line",
            )
    lines = (f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {origin.path}{route} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()
