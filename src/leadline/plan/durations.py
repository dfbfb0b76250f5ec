"""The time of one request alone, and the timeout that follows from it."""

from __future__ import annotations

from functools import lru_cache

from leadline.plan.architecture import Model
from leadline.plan.hardware import Device
from leadline.plan.request import Request
from leadline.plan.roofline import (
    Interval,
    audit_prefill,
    calibrate_prefill,
    count_prefill_work,
    estimate_decode,
    estimate_prefill,
)
from leadline.plan.schema import Audit, Seconds, Time
from leadline.plan.weights import Shards

TIMEOUT_FACTOR = 1.5
"""Half more than the slowest estimate: a timeout should fire on a hang, not on a slow run."""


@lru_cache
def plan_time(
    model: Model, device: Device, shards: Shards, engine: str, *, request: Request, tokens: int
) -> Time | None:
    """None where the device has no known peak, or nothing can be prefilled."""
    if not device.peak_flops or tokens < 1:
        return None
    if request.probes and not request.cached_tokens:
        prefill = calibrate_prefill(model, device, shards, tokens, request.probes)
    else:
        work = count_prefill_work(model, tokens, min(request.cached_tokens, tokens))
        prefill = estimate_prefill(model, device, shards, engine, work)
    decode = estimate_decode(model, device, shards, engine, context_tokens=tokens, batch=1)
    slowest = prefill.high + decode.high * request.output_tokens
    expected = prefill.expected + decode.expected * request.output_tokens
    return Time(
        prefill_s=_seconds(prefill),
        decode_token_s=_seconds(decode),
        request_s=expected,
        gpu_hours=expected * shards.tensor * shards.pipeline / 3600,
        timeout_s=TIMEOUT_FACTOR * slowest,
        audit=_audit(model, device, shards, request, tokens),
    )


def _audit(
    model: Model, device: Device, shards: Shards, request: Request, tokens: int
) -> Audit | None:
    if request.measured_prefill_s is None:
        return None
    seconds = request.measured_prefill_s
    found = audit_prefill(model, device, shards, tokens=tokens, seconds=seconds)
    return Audit(
        measured_s=seconds,
        share_of_peak=found.share_of_peak,
        possible_cold=found.possible_cold,
        plausible_cold=found.plausible_cold,
        cached_share=found.cached_share,
    )


def _seconds(interval: Interval) -> Seconds:
    return Seconds.model_validate(vars(interval))
