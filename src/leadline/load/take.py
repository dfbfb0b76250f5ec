"""What a stream has left when it is over: small and plain enough to be put away."""

from __future__ import annotations

from typing import Any

import msgspec

from leadline.records import Failure


class Take(msgspec.Struct, kw_only=True, frozen=True):
    """One exchange as it was on the wire, not yet read. Ticks are ``perf_counter_ns``."""

    wall_start: str
    start_ns: int
    connected_ns: int | None
    written_ns: int | None
    headers_ns: int | None
    end_ns: int
    status: int | None
    headers: dict[str, str]
    """Those that say what to do after a refusal."""
    trouble: tuple[Any, str] | None
    """Kind and message of a failure on the wire."""
    chunks: list[tuple[int, bytes]]
    """What came at one time, HTTP's own framing removed."""

    @property
    def failure(self) -> Failure | None:
        return Failure(kind=self.trouble[0], message=self.trouble[1]) if self.trouble else None
