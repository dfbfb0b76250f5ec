"""Prefill and decode time from counted work: a hard floor, an interval, a calibration.

The floor is the speed of light of the devices: no cold run beats it. The interval divides it by
the share of the peak that long prefills reach (a prior, stated); probes replace the prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any

from leadline.catalog.reading import read_table
from leadline.plan.architecture import Attention, Model
from leadline.plan.hardware import Device
from leadline.plan.patterns import Reach
from leadline.plan.weights import Shards, Tensor, layer_tensors


@dataclass(frozen=True)
class Work:
    """FLOP of a prefill by kind of work."""

    linear: float
    local: float
    full: float

    @property
    def total(self) -> float:
        return self.linear + self.local + self.full


@dataclass(frozen=True)
class Interval:
    """Seconds. Nothing cold is faster than ``floor``."""

    floor: float
    low: float
    expected: float
    high: float
    kind: str
    source: str


@dataclass(frozen=True)
class Probe:
    """One measured cold prefill."""

    tokens: int
    seconds: float


@dataclass(frozen=True)
class Fit:
    """``seconds = linear x N + square x N^2`` with N in tokens."""

    linear: float
    square: float

    def seconds(self, tokens: int) -> float:
        return self.linear * tokens + self.square * tokens**2


@dataclass(frozen=True)
class Audit:
    """Whether a reported prefill time can be a cold one, and what it would take if not."""

    floor_s: float
    share_of_peak: float
    possible_cold: bool
    plausible_cold: bool
    cached_share: float
    """Share of the prompt that must have been cached to take that time at the expected rate."""


@lru_cache
def count_prefill_work(model: Model, tokens: int, cached_tokens: int = 0) -> Work:
    """FLOP to prefill ``tokens`` of which the first ``cached_tokens`` are in the prefix cache.

    Linear layers: 2 x weights that a token passes, for each token that is not cached. Attention:
    2 x heads x (key + value size) for each pair of a query and a key it looks at.
    """
    linear = 2 * count_token_weights(model) * (tokens - cached_tokens)
    work = {"full": 0.0, "local": 0.0}
    for layer, count in model.kinds:
        reach = layer.attention.reach
        pairs = count * (count_pairs(reach, tokens) - count_pairs(reach, cached_tokens))
        work["full" if reach.kind == "full" else "local"] += _pair_flop(layer.attention) * pairs
    return Work(linear, work["local"], work["full"])


@lru_cache
def count_token_weights(model: Model) -> int:
    """Weights of the decoder layers that one token is multiplied with, routed experts only."""
    return sum(
        count * _passed(tensor, layer.feed_forward.experts_per_token)
        for layer, count in model.kinds
        for tensor in layer_tensors(model, layer)
        if tensor.kind != "plain" or tensor.name == "router"
    )


def count_pairs(reach: Reach, tokens: int) -> float:
    """Pairs of query and key under the causal mask: half a square, or of a window, or of chunks."""
    if reach.kind == "chunked":
        whole, rest = divmod(tokens, reach.tokens)
        return (whole * reach.tokens**2 + rest**2) / 2
    if reach.kind == "sliding" and tokens > reach.tokens:
        return reach.tokens**2 / 2 + (tokens - reach.tokens) * reach.tokens
    return tokens**2 / 2


def prefill_floor_s(model: Model, device: Device, shards: Shards, work: Work) -> float:
    """All work at the dense peak of all devices, or one pass over the weights if that is longer."""
    devices = shards.tensor * shards.pipeline
    peak = device.peak(operand_type(model)) * devices
    if peak == 0:
        return 0.0
    read = count_token_weights(model) * _weight_bytes(model) / (device.bandwidth_bytes_s * devices)
    return max(work.total / peak, read)


def estimate_prefill(
    model: Model, device: Device, shards: Shards, engine: str, work: Work
) -> Interval:
    """The floor divided by the least, expected and largest share of the peak."""
    floor = prefill_floor_s(model, device, shards, work)
    facts = _efficiency("prefill", engine)
    return _interval(floor, facts)


def estimate_decode(
    model: Model, device: Device, shards: Shards, engine: str, *, context_tokens: int, batch: int
) -> Interval:
    """Seconds for one step of a batch: weights once, and each request's cache, at the bandwidth.

    Experts are counted once for each routed token, at most all of them.
    """
    devices = shards.tensor * shards.pipeline
    if device.bandwidth_bytes_s == 0:
        return _interval(0.0, _efficiency("decode", engine))
    weights = count_step_weights(model, batch) * _weight_bytes(model)
    cache = batch * count_cache_numbers(model, context_tokens) * model.dtype_bytes
    copies = max(1, shards.tensor // model.kv_heads)
    floor = (weights + cache * copies) / (device.bandwidth_bytes_s * devices)
    return _interval(floor, _efficiency("decode", engine))


@lru_cache
def count_step_weights(model: Model, batch: int) -> int:
    """Weights read in one decode step: all dense ones, and the experts that the batch meets."""
    total = model.vocabulary * model.hidden
    for layer, count in model.kinds:
        met = min(layer.feed_forward.experts, batch * layer.feed_forward.experts_per_token)
        total += count * sum(_passed(tensor, met) for tensor in layer_tensors(model, layer))
    return total


@lru_cache
def count_cache_numbers(model: Model, tokens: int) -> int:
    """Cached numbers that one decode step of one request reads, all layers."""
    return sum(
        count
        * layer.attention.cached_heads
        * layer.attention.cached_elements
        * (min(tokens, layer.attention.reach.tokens) if layer.attention.reach.tokens else tokens)
        for layer, count in model.kinds
    )


def fit_probes(probes: Sequence[Probe]) -> Fit | None:
    """``a N + b N^2`` through the probes (least squares of relative errors, none negative).

    None with fewer than two different lengths: one probe fixes a rate, not a shape.
    """
    if len({probe.tokens for probe in probes}) < 2:  # noqa: PLR2004 - two unknowns
        return None
    rows = [(p.tokens / p.seconds, p.tokens**2 / p.seconds) for p in probes]
    aa, ab, bb = (sum(x[i] * x[j] for x in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b = sum(x[0] for x in rows), sum(x[1] for x in rows)
    determinant = aa * bb - ab * ab
    linear, square = (a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant
    if linear < 0:
        return Fit(0.0, b / bb)
    if square < 0:
        return Fit(a / aa, 0.0)
    return Fit(linear, square)


def calibrate_prefill(
    model: Model, device: Device, shards: Shards, tokens: int, probes: Sequence[Probe]
) -> Interval:
    """Prefill seconds from the user's own cold probes.

    One length: the share of the peak it reached holds for the counted work of any other. Two and
    more: the fit. Spread: 10 %, or what the probes themselves miss the prediction by.
    """
    work = count_prefill_work(model, tokens)
    floor = prefill_floor_s(model, device, shards, work)
    fit = fit_probes(probes)
    if fit is None:
        per_flop = [p.seconds / count_prefill_work(model, p.tokens).total for p in probes]
        expected, spread = work.total * sum(per_flop) / len(per_flop), 0.10
    else:
        expected = fit.seconds(tokens)
        misses = [(fit.seconds(p.tokens) / p.seconds - 1) ** 2 for p in probes]
        spread = max(0.10, 2 * sqrt(sum(misses) / len(misses)))
    expected = max(expected, floor)
    source = f"{len(probes)} cold probes of this deployment"
    low = max(floor, expected * (1 - spread))
    return Interval(floor, low, expected, expected * (1 + spread), "calibrated", source)


def audit_prefill(
    model: Model,
    device: Device,
    shards: Shards,
    *,
    tokens: int,
    seconds: float,
    share_of_peak: float | None = None,
) -> Audit:
    """Hold a reported time against the floor; ``share_of_peak`` is what this deployment reaches."""
    facts = read_table("time")
    floor = prefill_floor_s(model, device, shards, count_prefill_work(model, tokens))
    share = share_of_peak or facts["prefill"]["default"]["expected"]
    reached = floor / seconds
    return Audit(
        floor_s=floor,
        share_of_peak=reached,
        possible_cold=seconds >= floor,
        plausible_cold=reached <= facts["audit"]["most_plausible_share"],
        cached_share=_cached_share(model, device, shards, tokens, seconds * share),
    )


def operand_type(model: Model) -> str:
    """What the matrix units multiply: 8-bit schemes quantise the activations too."""
    quantization = model.quantization
    return "fp8" if quantization is not None and quantization.bits == 8 else "bf16"  # noqa: PLR2004


def _cached_share(
    model: Model, device: Device, shards: Shards, tokens: int, floor_s: float
) -> float:
    """Smallest cached share of the prompt whose remaining work takes ``floor_s`` at the peak."""
    low, high = 0, tokens
    while high - low > 1:
        middle = (low + high) // 2
        work = count_prefill_work(model, tokens, middle)
        if prefill_floor_s(model, device, shards, work) > floor_s:
            low = middle
        else:
            high = middle
    return low / tokens


def _interval(floor_s: float, facts: dict[str, Any]) -> Interval:
    return Interval(
        floor=floor_s,
        low=floor_s / facts["most"],
        expected=floor_s / facts["expected"],
        high=floor_s / facts["least"],
        kind=facts["kind"],
        source=facts["source"],
    )


def _efficiency(phase: str, engine: str) -> dict[str, Any]:
    table = read_table("time")[phase]
    found: dict[str, Any] = table.get(engine, table["default"])
    return found


def _pair_flop(attention: Attention) -> int:
    return 2 * attention.heads * (attention.key_size + attention.value_size)


def _passed(tensor: Tensor, experts: int) -> int:
    """Elements of a tensor that a token meets: of an expert tensor only the routed copies."""
    return tensor.rows * tensor.columns * (experts if tensor.split == "expert" else tensor.count)


def _weight_bytes(model: Model) -> float:
    quantization = model.quantization
    return quantization.bits / 8 if quantization else model.dtype_bytes
