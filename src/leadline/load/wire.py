"""The open connection: bytes out as the kernel takes them, bytes in with the time they came.

On a plain socket the time is the kernel's own stamp. With TLS, and where the kernel stamps
nothing, it is taken as soon as this process has the bytes, before anything looks into them.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from time import perf_counter_ns
from typing import Protocol, cast

from leadline.load.dial import Call
from leadline.load.origin import Bytes, Origin
from leadline.load.stamps import STAMP_BYTES, arrival_ns

_READ_BYTES = 1 << 18


class _Room(threading.local):
    """One for all wires of a thread: what is read is parsed before anything else is read."""

    def __init__(self) -> None:
        self.buffers = [bytearray(_READ_BYTES)]
        self.view = memoryview(self.buffers[0])


_room = _Room()


class Hearer(Protocol):
    """Who is told what happens on the wire."""

    def handshaken(self, t_ns: int) -> None:
        """TLS stands."""

    def written(self, t_ns: int) -> None:
        """The kernel has the last byte of the request."""

    def received(self, t_ns: int, data: Bytes) -> None:
        """A view is valid only during the call."""

    def lost(self, error: Exception | None) -> None:
        """``None``: the server said all that it had to say."""


class Wire(Protocol):
    def close(self) -> None:
        """Nothing is heard any more."""


async def attach(call: Call, origin: Origin, hearer: Hearer) -> Wire:
    """Takes over the connection of ``call`` and what is still unsent."""
    if origin.tls is None:
        return _PlainWire(call.sock, call.unsent, hearer)
    try:
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: _TlsWire(call.unsent, hearer),
            sock=call.sock,
            ssl=origin.tls,
            server_hostname=origin.host,
        )
    except BaseException:
        call.sock.close()
        raise
    return wire


class _PlainWire:
    def __init__(self, sock: socket.socket, unsent: Bytes, hearer: Hearer) -> None:
        self._sock = sock
        self._unsent = memoryview(unsent)
        self._hearer = hearer
        self._last_ns = 0
        self._buffers, self._view = _room.buffers, _room.view
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)
        if unsent:
            self._loop.add_writer(sock, self._write)

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()

    def _read(self) -> None:
        try:
            size, notes, _, _ = self._sock.recvmsg_into(self._buffers, STAMP_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._loop.remove_reader(self._sock)
            self._hearer.lost(error)
            return
        if size:
            self._last_ns = t_ns = arrival_ns(notes, self._last_ns)
            self._hearer.received(t_ns, self._view[:size])
        else:
            self._loop.remove_reader(self._sock)
            self._hearer.lost(None)

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # a server that hangs up may have said why: reading tells
            self._loop.remove_writer(self._sock)
            return
        now_ns = perf_counter_ns()
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._loop.remove_writer(self._sock)
            self._hearer.written(now_ns)


class _TlsWire(asyncio.Protocol):
    def __init__(self, unsent: Bytes, hearer: Hearer) -> None:
        self._unsent = unsent
        self._hearer = hearer
        self._is_written = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._hearer.handshaken(perf_counter_ns())
        # Without a buffer of its own, the transport resumes us when the kernel has it all.
        self._transport.set_write_buffer_limits(high=0)
        self._transport.write(self._unsent)
        self._unsent = b""
        if not self._transport.get_write_buffer_size():
            self.resume_writing()

    def resume_writing(self) -> None:
        if not self._is_written:
            self._is_written = True
            self._hearer.written(perf_counter_ns())

    def data_received(self, data: bytes) -> None:
        self._hearer.received(perf_counter_ns(), data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hearer.lost(exc)

    def close(self) -> None:
        self._transport.abort()
