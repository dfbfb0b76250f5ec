"""What a plan is asked to serve."""

from __future__ import annotations

from dataclasses import dataclass

from leadline.plan.roofline import Probe


@dataclass(frozen=True)
class Request:
    """``input_tokens`` 0 means the longest prompt that the plan allows."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    probes: tuple[Probe, ...] = ()
    """Cold prefills of this deployment, measured."""
    measured_prefill_s: float | None = None
    """A time somebody reports for this very prompt, to be held against the floor."""
