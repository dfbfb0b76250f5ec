"""What a GGUF file says of its model, read without the vocabulary."""

from __future__ import annotations

import struct
from typing import Any

from gguf import GGUFReader, GGUFValueType

_HEAD = struct.Struct("<IQ")
"""Of a list: the type of its items, and how many."""
_LENGTH = struct.Struct("<Q")
_LONG = 4096

Parts = tuple[int, list[Any], list[int], list[GGUFValueType]]


class GgufHeader(GGUFReader):  # type: ignore[misc]  # the library has no types
    """Steps over long lists and all lists of texts: they are the vocabulary, and take seconds.

    The library has no way to ask for this; should its inner names change, all is read again.
    """

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Parts:
        if raw_type == GGUFValueType.ARRAY and (size := self._vocabulary_bytes(orig_offs)):
            return size, [], [], [GGUFValueType.ARRAY]
        parts: Parts = super()._get_field_parts(orig_offs, raw_type)
        return parts

    def _vocabulary_bytes(self, begin: int) -> int:
        """Of the list that begins there; 0 if it is none that is stepped over."""
        kind, count = _HEAD.unpack_from(self.data, begin)
        if kind == GGUFValueType.STRING:
            return self._end_of_texts(begin + _HEAD.size, count) - begin
        item = self.gguf_scalar_to_np.get(GGUFValueType(kind))
        if item is None or count < _LONG:
            return 0
        return _HEAD.size + int(count) * int(item().itemsize)

    def _end_of_texts(self, at: int, count: int) -> int:
        view = memoryview(self.data)
        for _ in range(count):
            at += _LENGTH.size + _LENGTH.unpack_from(view, at)[0]
        return at
