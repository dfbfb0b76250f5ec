"""What has ended, put away in an unnamed file until the load is over: memory stays bounded.

Nothing is looked at while the load runs: a thread encodes and writes, in one breath each.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO, NamedTuple, Self

import msgspec

from leadline.errors import LoadError
from leadline.load.runner import Job, Shot
from leadline.load.take import Take


class _Line(NamedTuple):
    number: int
    intended_ns: int
    take: Take


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Line).decode
# Before each line: its length, and when its request was sent, to sort by without a look inside.
_SIZE_BYTES, _START_BYTES = 4, 8
_HEAD_BYTES = _SIZE_BYTES + _START_BYTES


class Spool:
    """Give ``put`` to a load as its ``on_done``; ``finish``; iterate in the order of sending."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        """``file``: another process's end of it; otherwise one without a name is made."""
        self._files = [file or unnamed_file()]
        self._queue: SimpleQueue[Shot | None] = SimpleQueue()
        self._trouble: OSError | None = None
        self._writer: Thread | None = None
        self._counted: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def put(self, shot: Shot) -> None:
        if self._writer is None:
            self._writer = Thread(target=self._write, daemon=True, name="spool")
            self._writer.start()
        self._queue.put(shot)

    def adopt(self, file: BinaryIO) -> None:
        """What another process has put away belongs to this spool too."""
        self._files.append(file)

    def finish(self) -> None:
        """Wait until all is written; ``LoadError`` if it could not be, as on a full disk."""
        if self._writer:
            self._queue.put(None)
            self._writer.join()
            self._writer = None
        if self._trouble:
            raise LoadError(
                f"what the server answered could not be put away: {self._trouble.strerror}",
                where=tempfile.gettempdir(),
                cure="free some space there, or set TMPDIR to a folder that has it",
            )

    def __iter__(self) -> Iterator[Shot]:
        found = sorted(
            (start_ns, offset, size, fd)
            for fd in (file.fileno() for file in self._files)
            for start_ns, offset, size in _index(fd)
        )
        for _, offset, size, fd in found:
            number, intended_ns, take = _decode(os.pread(fd, size, offset))
            yield Shot(Job(number, b"", b""), intended_ns, take)

    def __len__(self) -> int:
        """Lines that have been written; each is looked at once, however often one asks."""
        for fd in (file.fileno() for file in self._files):
            count, offset = self._counted.get(fd, (0, 0))
            for _, begin, size in _index(fd, offset):
                count, offset = count + 1, begin + size
            self._counted[fd] = count, offset
        return sum(count for count, _ in self._counted.values())

    def _write(self) -> None:
        fd = self._files[0].fileno()
        while (shot := self._queue.get()) is not None:
            if self._trouble:
                continue
            try:
                _write_whole(fd, _line(shot))
            except OSError as error:
                self._trouble = error


def unnamed_file() -> BinaryIO:
    """Gone with the last process that has it open; only its owner can read it."""
    return tempfile.TemporaryFile(buffering=0)


def _line(shot: Shot) -> bytes:
    body = _encode(_Line(shot.job.number, shot.intended_ns, shot.stream))
    size = len(body).to_bytes(_SIZE_BYTES, "little")
    return size + shot.stream.start_ns.to_bytes(_START_BYTES, "little") + body


def _write_whole(fd: int, line: bytes) -> None:
    left = memoryview(line)
    while left:
        left = left[os.write(fd, left) :]


def _index(fd: int, offset: int = 0) -> Iterator[tuple[int, int, int]]:
    """(start, offset, size) of each line; a line that a killed process left unfinished is none."""
    end = os.fstat(fd).st_size
    while len(head := os.pread(fd, _HEAD_BYTES, offset)) == _HEAD_BYTES:
        size = int.from_bytes(head[:_SIZE_BYTES], "little")
        offset += _HEAD_BYTES
        if offset + size > end:
            return
        yield int.from_bytes(head[_SIZE_BYTES:], "little"), offset, size
        offset += size
