"""Waiting for a server's own word that it is healthy."""

from __future__ import annotations

import asyncio

import aiohttp

from leadline.launch import Launch

_OK = 200
# Before it listens it refuses at once; an engine whose health check generates a token may need long
# on a busy machine.
_PATIENCE_S = 30


async def is_healthy(session: aiohttp.ClientSession, launch: Launch) -> bool:
    try:
        async with (
            asyncio.timeout(_PATIENCE_S),
            session.get(launch.base_url + launch.health_path) as response,
        ):
            return response.status == _OK
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
