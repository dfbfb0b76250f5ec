"""The client watches itself: what it was late with is its own doing, not the server's."""

from __future__ import annotations

import asyncio
import gc
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

from leadline.records import Strain

_PERIOD_S = 0.01


class Vigil:
    """Samples the event loop's lag each 10 ms, and the CPU time of this process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lags_s = array("d")
        self._begun = time.perf_counter()
        self._cpu_begun = time.process_time()
        self._due = self._begun
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._due = time.perf_counter() + _PERIOD_S
        self._timer = self._loop.call_later(_PERIOD_S, self._sample)

    def _sample(self) -> None:
        self._lags_s.append(max(0.0, time.perf_counter() - self._due))
        self.start()

    def stop(self) -> Strain:
        if self._timer:
            self._timer.cancel()
        wall_s = time.perf_counter() - self._begun
        lags = sorted(self._lags_s)
        return Strain(
            wall_s=wall_s,
            cpu_share=(time.process_time() - self._cpu_begun) / wall_s,
            lag_p99_s=lags[int(len(lags) * 0.99)] if lags else 0.0,
            lag_max_s=lags[-1] if lags else 0.0,
        )


@contextmanager
def no_collection() -> Iterator[None]:
    """Without pauses for garbage: streams hold no cycles, and what does is small."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
