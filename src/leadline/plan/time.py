"""How long a prefill will take, from the probes already made on this very server.

Model: t(N) = a N + b N^2 with a, b >= 0 (linear layers and attention). So one probe (N1, t1)
already bounds every other length between the linear and the quadratic extreme, and the bounds
tighten with each probe. This is a prediction, not a measurement, and is always labelled so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Probes of one length scatter by this factor on an idle machine; no bound is tighter.
_NOISE = 1.15

_FIRST_TOKEN_FLOOR_S = 60.0
_FIRST_TOKEN_MARGIN = 3.0
_BETWEEN_TOKENS_FLOOR_S = 60.0
_BETWEEN_TOKENS_MARGIN = 50.0


class Prediction(NamedTuple):
    """Seconds; ``low`` and ``high`` are bounds of the model, ``expected`` its best fit."""

    low: float
    expected: float
    high: float


class PrefillModel:
    """Grows with each measured prefill."""

    def __init__(self) -> None:
        self.probes: list[tuple[int, float]] = []
        self.tpot_s: list[float] = []

    def learn(self, tokens: int, ttft_s: float, tpot_s: float | None = None) -> None:
        self.probes.append((tokens, ttft_s))
        if tpot_s is not None:
            self.tpot_s.append(tpot_s)

    def predict(self, tokens: int) -> Prediction | None:
        """Time to the first token of a cold prompt; ``None`` before the first probe."""
        if not self.probes:
            return None
        nearest = min(self.probes, key=lambda probe: abs(np.log(probe[0] / tokens)))
        bounds = [_bounds(n, t, tokens) for n, t in self.probes]
        low = max(bound[0] for bound in bounds)
        high = min(bound[1] for bound in bounds)
        if low > high:  # the probes contradict each other: trust the nearest alone
            low, high = _bounds(*nearest, tokens)
        expected = self._fit(tokens) or float(np.sqrt(low * high))
        return Prediction(low, float(np.clip(expected, low, high)), high)

    def predict_decode_s(self, output_tokens: int) -> float:
        """Decode time at the slowest rate seen; 0 before anything was seen."""
        return output_tokens * max(self.tpot_s, default=0.0)

    def first_token_patience_s(self, tokens: int) -> float | None:
        """How long a first token may take before it counts as a hang."""
        prediction = self.predict(tokens)
        if prediction is None:
            return None
        return max(_FIRST_TOKEN_FLOOR_S, _FIRST_TOKEN_MARGIN * prediction.high)

    def between_tokens_patience_s(self) -> float:
        return max(_BETWEEN_TOKENS_FLOOR_S, _BETWEEN_TOKENS_MARGIN * max(self.tpot_s, default=0.0))

    def _fit(self, tokens: int) -> float | None:
        """Least squares of relative errors, with neither coefficient below zero."""
        lengths = np.array([n for n, _ in self.probes], dtype=float)
        if len(set(lengths)) < 2:  # noqa: PLR2004
            return None
        times = np.array([t for _, t in self.probes])
        linear, quadratic = lengths / times, lengths**2 / times
        a, b = np.linalg.lstsq(np.stack([linear, quadratic], axis=1), np.ones(len(times)))[0]
        if b < 0:
            a, b = linear.sum() / (linear**2).sum(), 0.0
        elif a < 0:
            a, b = 0.0, quadratic.sum() / (quadratic**2).sum()
        return float(a * tokens + b * tokens**2)


def _bounds(probe_tokens: int, probe_s: float, tokens: int) -> tuple[float, float]:
    ratio = tokens / probe_tokens
    linear, quadratic = probe_s * ratio, probe_s * ratio**2
    return min(linear, quadratic) / _NOISE, max(linear, quadratic) * _NOISE
