"""The answer of the planner, ``leadline.plan/1``: what ``--json`` prints and reports read."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from leadline.plan.ledger import Kind, Term

Code = Literal[
    "invalid_parallelism",
    "exceeds_trained_context",
    "start_fail",
    "compile_fail",
    "bucket_missing",
    "request_too_long",
    "starts_but_unusable",
    "host_memory",
    "risk_oom_outside_budget",
]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(Part):
    """One reason why a deployment is not simply fine, and the flag that cures it."""

    code: Code
    reason: str
    flag: str
    direction: Literal["raise", "lower", "set", "unset", "change"]
    amount: str
    """How far, with its unit: the value to turn the flag to, or the size of what is missing."""
    kind: Kind = "derived"

    @property
    def cure(self) -> str:
        return f"{self.direction} {self.flag}: {self.amount}"


class CacheGroup(Part):
    attention: str
    reach_tokens: int
    layers: int


class KvCache(Part):
    bytes_per_token_per_gpu: float
    """What one more token of a long request takes on each rank."""
    available_gib: float
    uncertainty_gib: float
    capacity_tokens: int
    """As this version of the engine logs it."""
    max_concurrency: float
    """Requests of max_model_len at once, as the engine logs it."""
    max_request_tokens: int
    """Prompt and output of the longest single request that memory allows."""
    blocks: int
    block_tokens: int
    groups: tuple[CacheGroup, ...]
    kind: Kind


class Limits(Part):
    max_model_len: int
    trained_context: int
    max_startable_len: int
    """Longest max_model_len with which the engine starts."""
    output_tokens: int
    max_input_tokens: int
    """Longest prompt with that many output tokens: length limit and memory together."""
    input_tokens: int
    """The prompt that the plan was made for."""
    concurrent_requests: int
    """Requests of that prompt and output that the cache holds at once, all replicas."""


class Memory(Part):
    device_gib: float
    budget_gib: float
    """What the engine takes for itself: utilization or static fraction x total."""
    weights_gib: float
    margin_gib: float
    """Left outside the budget after everything known; negative: out of memory."""
    uncertainty_gib: float
    terms: tuple[Term, ...]


class Seconds(Part):
    low: float
    expected: float
    high: float
    floor: float
    kind: Kind
    source: str


class Audit(Part):
    """A reported prefill time held against the floor."""

    measured_s: float
    share_of_peak: float
    """Of the dense peak, if every token was computed."""
    possible_cold: bool
    plausible_cold: bool
    cached_share: float
    """Share of the prompt that a cache must have held to take that time at the expected rate."""


class Time(Part):
    prefill_s: Seconds
    decode_token_s: Seconds
    request_s: float
    """Expected seconds of one cold request alone: prefill and every output token."""
    gpu_hours: float
    """Device hours of that request, all devices of the deployment busy."""
    timeout_s: float
    """A client timeout that such a request will not meet: its slowest estimate, and half more."""
    audit: Audit | None = None
    """Of the prefill time that was reported for this prompt, if one was."""


class Plan(Part):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal["leadline.plan/1"] = Field(default="leadline.plan/1", alias="schema")
    model: str
    hardware: str
    engine: str
    gpus: int
    """Devices that one deployment takes."""
    parameters: int
    active_parameters: int
    verdict: str
    """``fits(n)`` with n requests of the planned size at once, or the code of the worst finding."""
    binding: Finding | None
    findings: tuple[Finding, ...]
    kv: KvCache
    limits: Limits
    memory: Memory
    time: Time | None
    warnings: tuple[str, ...]

    @property
    def serves_one(self) -> bool:
        """Nothing is in the way, and at least one request of the planned size fits."""
        return self.binding is None and self.limits.concurrent_requests > 0
