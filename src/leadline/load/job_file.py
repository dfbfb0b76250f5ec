"""The requests of a load in an unnamed file that several processes map: nobody copies a prompt."""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Sequence
from typing import BinaryIO

from leadline.load.runner import Job
from leadline.load.spool import unnamed_file

_FIELDS = 5
"""Of each job: its number, its offset, the lengths of its head and body, whether more follow."""


def write_jobs(jobs: Sequence[Job]) -> BinaryIO:
    file = unnamed_file()
    table = array("q")
    offset = 0
    for job in jobs:
        table.extend((job.number, offset, len(job.head), len(job.body), job.more))
        for part in (job.head, job.body):
            left = memoryview(part)
            while left:
                left = left[os.write(file.fileno(), left) :]
        offset += len(job.head) + len(job.body)
    file.write(table.tobytes())
    file.write(len(jobs).to_bytes(8, "little"))
    return file


class JobFile:
    """Jobs by their place in the file; heads and bodies are views of it."""

    def __init__(self, fd: int) -> None:
        self._map = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))
        count = int.from_bytes(self._map[-8:], "little")
        table_bytes = count * _FIELDS * 8
        self._table = self._map[-8 - table_bytes : -8].cast("q")

    def __len__(self) -> int:
        return len(self._table) // _FIELDS

    def __getitem__(self, place: int) -> Job:
        number, offset, head, body, more = self._table[place * _FIELDS : (place + 1) * _FIELDS]
        middle = offset + head
        return Job(number, self._map[offset:middle], self._map[middle : middle + body], bool(more))
