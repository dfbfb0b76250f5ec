"""Every sensible setting of one engine under the ledger: what fits, ranked, and why the rest not.

The inverse questions are answered the same way, by asking the plan: the smallest number of
devices, the lowest utilization. Nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from leadline.errors import PlanError
from leadline.plan.architecture import Model, load_model
from leadline.plan.deployment import DEFAULT_OUTPUT_TOKENS, parse_engine, plan_deployment
from leadline.plan.hardware import Hardware, parse_hardware
from leadline.plan.options import read_count
from leadline.plan.schema import Plan
from leadline.plan.vllm_settings import HYBRID_VARIABLE

# What a search varies unless told otherwise; every name is the engine's own.
_GRIDS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "vllm": {
        "tensor_parallel_size": (1, 2, 4, 8, 16),
        "pipeline_parallel_size": (1, 2),
        "gpu_memory_utilization": (0.8, 0.85, 0.9, 0.92, 0.95),
        "max_num_seqs": (8, 64, 256, 1024),
        "max_num_batched_tokens": (2048, 8192, 16384),
        "kv_cache_dtype": ("auto", "fp8"),
        "decode_context_parallel_size": (1, 2, 4, 8),
        "max_cudagraph_capture_size": (16, 512),
    },
    "sglang": {
        "tp_size": (1, 2, 4, 8, 16),
        "mem_fraction_static": (0.7, 0.75, 0.8, 0.85, 0.9),
        "max_running_requests": (8, 64, 256, 2048),
        "cuda_graph_max_bs": (8, 64, 256, 512),
        "chunked_prefill_size": (2048, 8192, 16384),
        "kv_cache_dtype": ("auto", "fp8_e4m3"),
    },
}
# Only where layers are chunked (Llama-4): shares of the pool that hold a chunk instead of all.
_CHUNKED_GRIDS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "sglang": {"hybrid_kvcache_ratio": (0, 0.5, 0.9)},
}
_SWITCHES: Mapping[str, Sequence[str]] = {"vllm": (HYBRID_VARIABLE,)}
_RANK_FLAGS = ("tensor_parallel_size", "pipeline_parallel_size", "tp_size", "pp_size")


@dataclass(frozen=True)
class Candidate:
    settings: Mapping[str, Any]
    env: Mapping[str, str]
    plan: Plan

    @property
    def fits(self) -> bool:
        return self.plan.serves_one


def search_settings(
    model: str | Model,
    hardware: str,
    engine: str,
    *,
    input_tokens: int,
    output_tokens: int = DEFAULT_OUTPUT_TOKENS,
    fixed: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[list[Candidate], list[Candidate]]:
    """(ranked, rejected). Ranked by requests at once per device, then by memory left over.

    ``fixed`` settings are not varied; the length is just what the request needs.
    """
    name = _searchable(engine)
    found = model if isinstance(model, Model) else load_model(model)
    devices = parse_hardware(hardware)
    given = dict(fixed or {})
    varied = dict(grid or _list_options(found, name))
    options = {key: values for key, values in varied.items() if key not in given}
    candidates = [
        Candidate(settings, switches, plan)
        for settings in _combine(given, options, found, devices)
        for switches in _switch(found, name, dict(env or {}))
        for plan in [
            plan_deployment(
                found,
                devices,
                engine,
                settings=settings,
                env=switches,
                max_model_len=input_tokens + output_tokens + _slack(name),
                input_tokens=input_tokens,
                output_tokens=output_tokens,
            )
        ]
    ]
    ranked = sorted((c for c in candidates if c.fits), key=_rank)
    return ranked, [c for c in candidates if not c.fits]


def plan_by_device(
    model: str | Model,
    hardware: Sequence[str],
    engine: str,
    *,
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    max_model_len: int | str | None = None,
    output_tokens: int = DEFAULT_OUTPUT_TOKENS,
) -> list[tuple[str, Plan]]:
    """One plan for each kind of device, for the kits' table: KV memory and longest context."""
    found = model if isinstance(model, Model) else load_model(model)
    return [
        (
            name,
            plan_deployment(
                found,
                name,
                engine,
                settings=settings,
                env=env,
                max_model_len=max_model_len,
                output_tokens=output_tokens,
            ),
        )
        for name in hardware
    ]


def trace_concurrency(
    model: str | Model,
    hardware: str,
    engine: str,
    *,
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    max_model_len: int | str | None = None,
    output_tokens: int = DEFAULT_OUTPUT_TOKENS,
    available_kv_gib: float | None = None,
    weights_gib: float | None = None,
) -> list[tuple[int, int]]:
    """(prompt tokens, requests at once) at doubling lengths up to the longest prompt."""
    found = model if isinstance(model, Model) else load_model(model)

    def plan(tokens: int | None) -> Plan:
        return plan_deployment(
            found,
            hardware,
            engine,
            settings=settings,
            env=env,
            max_model_len=max_model_len,
            input_tokens=tokens,
            output_tokens=output_tokens,
            available_kv_gib=available_kv_gib,
            weights_gib=weights_gib,
        )

    longest = plan(None).limits.max_input_tokens
    lengths = [1024 * 2**step for step in range(32) if 1024 * 2**step < longest]
    return [(n, plan(n).limits.concurrent_requests) for n in (*lengths, longest) if n]


def find_fewest_devices(
    model: str | Model,
    hardware: str,
    engine: str,
    *,
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    max_model_len: int | str | None = None,
) -> Plan:
    """The plan with the smallest tensor-parallel size that fits the length at least once."""
    _searchable(engine)
    flag = tensor_parallel_flag(engine)
    devices = parse_hardware(hardware)
    found = model if isinstance(model, Model) else load_model(model)
    for ranks in range(1, devices.devices + 1):
        given = dict(settings or {}) | {flag: ranks}
        plan = plan_deployment(
            found, devices, engine, settings=given, env=env, max_model_len=max_model_len
        )
        if plan.serves_one:
            return plan
    raise PlanError(
        f"{found.name} does not fit on {devices} with any tensor-parallel size",
        where="search",
        cure="a shorter max_model_len, a smaller KV dtype, quantised weights, or more devices",
    )


def tensor_parallel_flag(engine: str) -> str:
    """The engine's own name of its tensor-parallel size."""
    name, _ = parse_engine(engine)
    return "tp_size" if name == "sglang" else "tensor_parallel_size"


def find_lowest_utilization(
    model: str | Model,
    hardware: str,
    engine: str,
    *,
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    max_model_len: int | str | None = None,
) -> float:
    """Lowest gpu_memory_utilization (or static fraction), to 0.01, that still fits one request."""
    name = _searchable(engine)
    flag = "mem_fraction_static" if name == "sglang" else "gpu_memory_utilization"
    found = model if isinstance(model, Model) else load_model(model)
    for percent in range(1, 100):
        given = dict(settings or {}) | {flag: percent / 100}
        plan = plan_deployment(
            found, hardware, engine, settings=given, env=env, max_model_len=max_model_len
        )
        if plan.serves_one:
            return percent / 100
    raise PlanError(
        f"{found.name} does not fit on {hardware} with any utilization",
        where="search",
        cure="more devices, or a shorter max_model_len",
    )


def _searchable(engine: str) -> str:
    """The engine's name. On Neuron every bucket list is a setting: there is no grid of them."""
    name, _ = parse_engine(engine)
    if name not in _GRIDS:
        raise PlanError(
            f"settings of {name} are not searched: its bucket lists have no grid",
            where="search",
            cure="plan settings one by one; those that the rules speak for are listed in "
            "docs/how-to/plan-for-neuron.md",
        )
    return name


def _list_options(model: Model, name: str) -> Mapping[str, Sequence[Any]]:
    return {**_GRIDS[name], **(_CHUNKED_GRIDS.get(name, {}) if _is_chunked(model) else {})}


def _is_chunked(model: Model) -> bool:
    return any(layer.attention.reach.kind == "chunked" for layer, _ in model.kinds)


def _combine(
    given: Mapping[str, Any],
    options: Mapping[str, Sequence[Any]],
    model: Model,
    hardware: Hardware,
) -> Iterator[dict[str, Any]]:
    """Every combination that can be meant: the devices suffice, KV heads have copies to share."""
    for values in product(*options.values()):
        settings = dict(given) | dict(zip(options, values, strict=True))
        counts = {key: read_count(key, settings.get(key, 1)) for key in _RANK_FLAGS}
        tensor = counts["tensor_parallel_size"] * counts["tp_size"]
        copies = max(1, tensor // model.kv_heads)
        if prod(counts.values()) <= hardware.devices and _share(settings) <= copies:
            yield settings


def _share(settings: Mapping[str, Any]) -> int:
    flag = "decode_context_parallel_size"
    return read_count(flag, settings.get(flag, 1))


def _switch(model: Model, name: str, env: dict[str, str]) -> Iterator[dict[str, str]]:
    """Environment switches that matter to this model, off and on."""
    switches = [key for key in _SWITCHES.get(name, ()) if _is_chunked(model) and key not in env]
    for values in product("01", repeat=len(switches)):
        yield env | dict(zip(switches, values, strict=True))


def _slack(name: str) -> int:
    """Tokens that an engine wants beyond prompt and output: SGLang refuses equality, keeps six."""
    return 7 if name == "sglang" else 0


def _rank(candidate: Candidate) -> tuple[float, float, float]:
    plan = candidate.plan
    seconds = plan.time.request_s if plan.time else 0.0
    return (
        -plan.limits.concurrent_requests / plan.gpus,
        seconds,
        -plan.memory.margin_gib,
    )
