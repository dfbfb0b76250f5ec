"""Waiting for a server's own word that it is healthy."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import aiohttp

from leadline.launch import Launch

_OK = 200
# Before it listens it refuses at once; an engine whose health check generates a token may need long
# on a busy machine.
_PATIENCE_S = 30
_CONNECT_S, _AGAIN_S = 3.0, 0.2


async def is_reachable(url: str, within_s: float) -> bool:
    """Whether the address takes a connection, tried until then; nothing is said on it.

    An engine that spins and answers nobody is still reached: its kernel answers.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    deadline = asyncio.get_running_loop().time() + within_s
    while not await _takes_connection(parts.hostname or "", port):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(_AGAIN_S)
    return True


async def _takes_connection(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def is_healthy(session: aiohttp.ClientSession, launch: Launch) -> bool:
    try:
        async with (
            asyncio.timeout(_PATIENCE_S),
            session.get(launch.base_url + launch.health_path) as response,
        ):
            return response.status == _OK
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
