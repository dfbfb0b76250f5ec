"""A server of known truth: sends tokens when they are due and logs when each one really left.

One process on one core, awake all the time, so that its own timing is exact to microseconds. A
request's arrival is the kernel's time stamp of its last byte, not the time at which Python came to
read it. The log, written at SIGTERM or when standard input ends (``--attached``), has one line for
each stream: its number, which is also the text of its first token, the arrival, and of every token
the time before it was sent and the time after, all in the nanoseconds of ``time.perf_counter_ns``,
which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import select
import signal
import socket
import struct
import time
from array import array
from pathlib import Path
from typing import Any

MS = 1_000_000
SO_TIMESTAMPNS = 35
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
MODELS = b'{"object":"list","data":[{"id":"truth","object":"model","max_model_len":1000000}]}'


class Stream:
    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.request = b""
        self.unsent = b""
        self.arrived_ns = 0
        self.sent_ns = array("q")
        self.gone_ns = array("q")


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.itl_ns = int(options.itl_ms * MS)
        self.ttft_ns = int(options.ttft_ms * MS)
        self.stall_ns = int(options.stall_ms * MS)
        self.pieces = [_piece(n, options.tokens) for n in range(1, options.tokens + 1)]
        self.ends = {asked: _end(options.tokens, asked) for asked in (False, True)}
        self.poll = select.epoll()
        self.listener = socket.create_server(("127.0.0.1", options.port), backlog=4096)
        self.listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.listener.setblocking(False)
        self.poll.register(self.listener, select.EPOLLIN)
        if options.attached:
            self.poll.register(0, select.EPOLLIN | select.EPOLLHUP)
        self.streams: dict[int, Stream] = {}
        self.due: list[tuple[int, int, Stream]] = []
        self.ended: list[Stream] = []
        self.numbers = itertools.count()
        self.is_stopping = False
        # The kernel stamps in calendar time.
        self.epoch_ns = time.time_ns() - time.perf_counter_ns()

    def serve(self) -> None:
        while not self.is_stopping:
            now = time.perf_counter_ns()
            while self.due and self.due[0][0] <= now:
                due_ns, _, stream = heapq.heappop(self.due)
                self._send_token(stream, due_ns)
                now = time.perf_counter_ns()
            for fd, _ in self.poll.poll(self._spare_s()):
                self._take(fd)

    def _spare_s(self) -> float:
        """Time to sleep; the last millisecond before a token is spent awake."""
        if not self.due:
            return 0.2
        return max(0.0, (self.due[0][0] - time.perf_counter_ns()) * 1e-9 - 0.002)

    def _take(self, fd: int) -> None:
        if fd == self.listener.fileno():
            self._accept()
            return
        if fd == 0:
            self.is_stopping = not os.read(0, 1)
            return
        stream = self.streams[fd]
        if stream.arrived_ns:
            self._flush(stream)
        else:
            self._read(stream)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = Stream(sock, next(self.numbers))
            self.streams[sock.fileno()] = stream
            self.poll.register(sock, select.EPOLLIN)
            self._read(stream)

    def _read(self, stream: Stream) -> None:
        try:
            data, stamps, _, _ = stream.sock.recvmsg(1 << 20, 128)
        except BlockingIOError:
            return
        stream.request += data
        if not data:
            self._end(stream)
        elif _is_whole(stream.request):
            stream.arrived_ns = self._arrival_ns(stamps)
            self._answer(stream)

    def _arrival_ns(self, stamps: list[tuple[int, int, bytes]]) -> int:
        for _, kind, value in stamps:
            if kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack("qq", value)
                return int(seconds * 10**9 + nanoseconds - self.epoch_ns)
        return time.perf_counter_ns()

    def _answer(self, stream: Stream) -> None:
        if stream.request.startswith(b"GET"):
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(MODELS)}\r\n\r\n".encode()
            stream.sock.send(head + MODELS)
            self._end(stream)
            return
        if self.options.mode == "flood":
            stream.unsent = HEAD + b"".join(self._piece(stream, n) for n in range(len(self.pieces)))
            stream.sent_ns.append(time.perf_counter_ns())
            self.poll.modify(stream.sock, select.EPOLLOUT)
            return
        stream.sock.send(HEAD)
        due_ns = stream.arrived_ns + self.ttft_ns
        if self.options.mode == "lockstep":
            due_ns = -(-due_ns // self.itl_ns) * self.itl_ns
        heapq.heappush(self.due, (due_ns, stream.number, stream))

    def _send_token(self, stream: Stream, due_ns: int) -> None:
        if stream.sock.fileno() not in self.streams:
            return  # ended by its client
        n = len(stream.sent_ns)
        piece = self._piece(stream, n)
        stream.sent_ns.append(time.perf_counter_ns())
        try:
            stream.sock.send(piece)
        except OSError:  # the client is gone
            self._end(stream)
            return
        stream.gone_ns.append(time.perf_counter_ns())
        if n + 1 < len(self.pieces):
            heapq.heappush(self.due, (due_ns + self._gap_ns(n + 1), stream.number, stream))
        else:
            self._end(stream)

    def _piece(self, stream: Stream, n: int) -> bytes:
        piece = self.pieces[n] if n else _first(stream, self.pieces[0])
        if n + 1 < len(self.pieces):
            return piece
        return piece + self.ends[b'"include_usage"' in stream.request]

    def _gap_ns(self, n: int) -> int:
        every = self.options.stall_every
        return self.itl_ns + (self.stall_ns if every and n % every == 0 else 0)

    def _flush(self, stream: Stream) -> None:
        if not stream.unsent:  # a client that says more than its request, or its end
            self._end(stream)
            return
        try:
            sent = stream.sock.send(stream.unsent)
        except OSError:
            self._end(stream)
            return
        stream.unsent = stream.unsent[sent:]
        if not stream.unsent:
            stream.gone_ns.append(time.perf_counter_ns())
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        self.poll.unregister(stream.sock)
        del self.streams[stream.sock.fileno()]
        stream.sock.close()
        if stream.sent_ns:
            self.ended.append(stream)

    def stop(self, *_: Any) -> None:
        self.is_stopping = True

    def write_log(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for stream in self.ended:
                line = {
                    "stream": stream.number,
                    "arrived_ns": stream.arrived_ns,
                    "sent_ns": list(stream.sent_ns),
                    "gone_ns": list(stream.gone_ns),
                }
                file.write(json.dumps(line) + "\n")


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    if not end:
        return False
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    return len(body) >= int(length or 0)


def _piece(n: int, tokens: int) -> bytes:
    """The n-th token as an HTTP chunk, with vLLM's fields."""
    reason = "length" if n == tokens else None
    return _framed(_event("N" if n == 1 else " token", reason, _usage(n)))


def _end(tokens: int, is_usage_asked: bool) -> bytes:
    """What follows the last token; usage in an event without a choice only for who asks for it."""
    done = _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    if not is_usage_asked:
        return done
    last = {**json.loads(_event("", None, _usage(tokens))[6:]), "choices": []}
    return _framed(b"data: " + _compact(last) + b"\n\n") + done


def _usage(n: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "total_tokens": 1 + n, "completion_tokens": n}


def _event(text: str, reason: str | None, usage: dict[str, int]) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    event = {
        "id": "cmpl-0123456789abcdef0123456789abcdef",
        "object": "text_completion",
        "created": 1767225600,
        "model": "truth",
        "choices": [choice],
        "usage": usage,
    }
    return b"data: " + _compact(event) + b"\n\n"


def _compact(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def _first(stream: Stream, piece: bytes) -> bytes:
    """The first token, saying which stream it is."""
    body = piece.partition(b"\r\n")[2]
    event, mark, rest = body.partition(b"\n\n\r\n")
    named = event.replace(b'"text":"N"', f'"text":"{stream.number}"'.encode())
    return _framed(named + mark[:2]) + rest


def _framed(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--core", type=int, help="run on this core only")
    parser.add_argument("--attached", action="store_true", help="end with standard input")
    parser.add_argument("--realtime", action="store_true", help="SCHED_FIFO, as root")
    parser.add_argument("--mode", choices=["paced", "lockstep", "flood"], default="lockstep")
    parser.add_argument("--ttft-ms", type=float, default=200)
    parser.add_argument("--itl-ms", type=float, default=10)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--stall-ms", type=float, default=0, help="longer gap, as often as asked")
    parser.add_argument("--stall-every", type=int, default=0, help="tokens from stall to stall")
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    server = Server(options)
    signal.signal(signal.SIGTERM, server.stop)
    print(server.listener.getsockname()[1], flush=True)  # noqa: T201
    server.serve()
    server.write_log(options.log)


if __name__ == "__main__":
    main()
