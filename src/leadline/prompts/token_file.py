"""Named arrays in one file that is mapped, not read; damage and foreign files are noticed.

Layout: magic, length and CRC-32 of the header, the header as JSON, then each array on a
64-byte boundary. The checksums guard against torn and rotten files, not against forgers.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

_MAGIC = b"leadline-tokens\x01"
_HEAD = struct.Struct("<16sII")
_ALIGNMENT = 64


class TokenFile(NamedTuple):
    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def write_token_file(
    path: Path, key: str, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Through a neighbour that is renamed, so that nobody ever sees half a file."""
    sections: dict[str, Any] = {}
    offset = 0
    for name, array in arrays.items():
        crc = zlib.crc32(array.tobytes())
        sections[name] = [offset, len(array), array.dtype.str, crc]
        offset += _padded(array.nbytes)
    header = orjson.dumps({"key": key, "facts": dict(facts), "sections": sections})
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, neighbour = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_HEAD.pack(_MAGIC, len(header), zlib.crc32(header)))
            file.write(header.ljust(_padded(_HEAD.size + len(header)) - _HEAD.size))
            for array in arrays.values():
                file.write(array.tobytes().ljust(_padded(array.nbytes), b"\0"))
        Path(neighbour).replace(path)
    except BaseException:
        Path(neighbour).unlink(missing_ok=True)
        raise


def read_token_file(path: Path, key: str) -> TokenFile | None:
    """The mapped file, or ``None`` if it is absent, damaged, or not of this key."""
    try:
        data = np.memmap(path, np.uint8, mode="r")
        return _read(data, key)
    except (OSError, ValueError, KeyError, struct.error):
        return None


def _read(data: NDArray[np.uint8], key: str) -> TokenFile | None:
    magic, length, crc = _HEAD.unpack(data[: _HEAD.size].tobytes())
    header = data[_HEAD.size : _HEAD.size + length].tobytes()
    if magic != _MAGIC or zlib.crc32(header) != crc:
        return None
    content = orjson.loads(header)
    if content["key"] != key:
        return None
    start = _padded(_HEAD.size + length)
    arrays = {}
    for name, (offset, count, kind, expected) in content["sections"].items():
        array = np.frombuffer(data, kind, count, start + offset)
        if zlib.crc32(array.data) != expected:
            return None
        arrays[name] = array
    return TokenFile(content["facts"], arrays)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
