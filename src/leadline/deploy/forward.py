"""A port of 127.0.0.1 carried to a port of a pod, as ``kubectl port-forward`` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

import aiohttp

from leadline.deploy.cluster import Cluster
from leadline.render.kubernetes import Object

_PIECE = 256 * 1024
_DATA, _ERROR = 0, 1
"""Each message begins with its channel; the first on each channel only names the port."""


class Forward:
    """Listens from ``open`` to ``close``; a connection made before there is a pod is closed."""

    def __init__(self, cluster: Cluster, port: int, pod: Callable[[], Object | None]) -> None:
        self._cluster = cluster
        self._port = port
        self._pod = pod
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    async def open(self, port: int) -> None:
        """Raises ``OSError`` if the port of this machine is taken."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        with suppress(asyncio.CancelledError):
            await task

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (pod := self._pod()) is None:
                return
            with suppress(aiohttp.ClientError, OSError):
                async with await self._cluster.forward(pod, self._port) as socket:
                    await _first_to_end(_up(reader, socket), _down(socket, writer))
        finally:
            writer.close()


async def _first_to_end(*ways: Coroutine[None, None, None]) -> None:
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _up(reader: asyncio.StreamReader, socket: aiohttp.ClientWebSocketResponse) -> None:
    while data := await reader.read(_PIECE):
        await socket.send_bytes(bytes((_DATA,)) + data)


async def _down(socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    named: set[int] = set()
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY:
            return
        channel = message.data[0]
        if channel not in named:
            named.add(channel)
        elif channel == _ERROR:
            return
        else:
            writer.write(message.data[1:])
            await writer.drain()
