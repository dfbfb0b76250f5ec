"""Connect and send in one breath: any wait between the two would be counted as the server's.

On a local connection the request has left before the event loop turns once, however many others
start at the same time; elsewhere it leaves in the very callback that learns of the connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
from time import perf_counter_ns
from typing import NamedTuple

from leadline.load.origin import Address, Bytes, Origin
from leadline.load.stamps import stamp_arrivals

_CONNECT_S = 30.0


class Call(NamedTuple):
    """A connection, and what of the request the kernel has not taken yet."""

    sock: socket.socket
    start_ns: int
    connected_ns: int
    sent_ns: int
    unsent: Bytes


async def dial(origin: Origin, head: Bytes, body: Bytes) -> Call:
    """The first of the server's addresses that takes the connection; ``OSError`` if none does.

    With TLS, all of the request is left unsent: the handshake comes first.
    """
    *others, last = origin.addresses
    for address in others:
        try:
            return await _dial(address, head, body, tls=origin.tls is not None)
        except OSError:
            continue
    return await _dial(last, head, body, tls=origin.tls is not None)


async def _dial(address: Address, head: Bytes, body: Bytes, *, tls: bool) -> Call:
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not tls:
            stamp_arrivals(sock)
        start_ns = perf_counter_ns()
        _begin_connecting(sock, address)
        connected_ns = perf_counter_ns()
        sent = 0 if tls else _send(sock, head, body)
        sent_ns = perf_counter_ns()
        if not sent:
            connected_ns, sent, sent_ns = await _finish_connecting(sock, head, body, tls=tls)
    except BaseException:
        sock.close()
        raise
    return Call(sock, start_ns, connected_ns, sent_ns, _rest(sent, head, body))


def _begin_connecting(sock: socket.socket, address: Address) -> None:
    try:
        sock.connect(address[1])
    except BlockingIOError:
        return


def _send(sock: socket.socket, head: Bytes, body: Bytes) -> int:
    """Bytes that the kernel has taken; none while the connection is still being made."""
    try:
        return sock.sendmsg((head, body))
    except BlockingIOError:
        return 0


async def _finish_connecting(
    sock: socket.socket, head: Bytes, body: Bytes, *, tls: bool
) -> tuple[int, int, int]:
    """(connected, bytes sent, when) as soon as the connection stands."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[tuple[int, int, int]] = loop.create_future()

    def proceed() -> None:
        connected_ns = perf_counter_ns()
        loop.remove_writer(sock)
        if ready.done():
            return
        try:
            _require_connection(sock)
            sent = 0 if tls else _send(sock, head, body)
        except OSError as error:
            ready.set_exception(error)
        else:
            ready.set_result((connected_ns, sent, perf_counter_ns()))

    loop.add_writer(sock, proceed)
    try:
        async with asyncio.timeout(_CONNECT_S):
            return await ready
    finally:
        loop.remove_writer(sock)


def _require_connection(sock: socket.socket) -> None:
    if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))


def _rest(sent: int, head: Bytes, body: Bytes) -> Bytes:
    """What of both is left; a long body is not copied."""
    if sent < len(head):
        return b"".join((head[sent:], body))
    return memoryview(body)[sent - len(head) :]
