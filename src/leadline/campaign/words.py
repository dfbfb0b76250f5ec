"""The engine's own words, once it is ready: heard, compared with the plan, held against it."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from leadline.campaign.serving import Served
from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.engines.engine import Engine
from leadline.engines.statements import Words, differing_settings, read_words
from leadline.errors import LeadlineError, PlanError
from leadline.plan.local_memory import LocalPlan
from leadline.plan.pool_forecast import CPU, PoolForecast, forecast_pool, given_cpu_bytes
from leadline.records import Comparison, EngineWords, Finding
from leadline.spec import Deployment
from leadline.units import GIB, parse_tokens

_FORECAST = "vllm"
_GIVEN = "kv_cache_memory_bytes"
_COUNTS = ("max_model_len", "ctx_size", "context_length", "max_num_batched_tokens", _GIVEN)
_POOL = "max_total_tokens"
# Figures are printed with two decimals.
_HALF_STEP = 0.005


class _Memory(NamedTuple):
    """What the engine has for its KV cache, per rank."""

    size_bytes: int
    source: str
    rounding: float
    """Share of it that may be lost in print."""


async def hear(
    served: Served,
    deployment: Deployment,
    log: Path,
    hardware: str | None = None,
    local_plan: LocalPlan | None = None,
) -> Served:
    """The same server, with all that it says of itself."""
    lines = await asyncio.to_thread(read_log, log) if served.target else []
    shown = await _shown_settings(served)
    words = understand(served.engine, lines, shown, deployment, hardware, local_plan)
    return replace(served, words=words)


def understand(
    engine: Engine,
    lines: list[str],
    shown: dict[str, str],
    deployment: Deployment,
    hardware: str | None = None,
    local_plan: LocalPlan | None = None,
) -> EngineWords:
    """What an engine said in its log and shows of its settings, beside what the plan foretells."""
    said = read_words(lines, engine.statements, engine.resolved)
    settings = {**said.settings, **shown}
    said = Words(said.figures, said.quotes, settings)
    windows = _compare_window(deployment, said, local_plan)
    words = EngineWords(
        version=_version(deployment, said),
        figures=dict(said.figures),
        quotes=dict(said.quotes),
        settings=settings,
        differing=differing_settings(_asked(deployment), settings),
        comparisons=(*windows, *_compare_pool(deployment, said)),
    )
    device = CPU if words.figures.get("device") == CPU else hardware
    memory = _memory(deployment, words, device)
    if deployment.engine_name == _FORECAST and device and memory and words.version:
        forecast = _forecast(deployment, words.version, device, memory)
        words = _with_forecast(words, forecast, memory.rounding) if forecast else words
    return words


def find_unusable(words: EngineWords) -> Finding | None:
    """An engine that starts, and would hang for ever on a request that it admits."""
    concurrency = words.figures.get("concurrency")
    if not isinstance(concurrency, float) or concurrency >= 1:
        return None
    line = words.quotes["concurrency"]
    return explain(Evidence(start_cause="unusable", log=(line,), remedy=words.remedy))


def read_log(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.is_file() else []


async def _shown_settings(served: Served) -> dict[str, str]:
    try:
        return await served.server.settings(served.engine)
    except LeadlineError:
        return {}  # it is up without its metrics: the log has most of them


def _version(deployment: Deployment, said: Words) -> str:
    """As the engine itself says; else as the campaign names it."""
    asked = (deployment.engine or "").partition("==")[2]
    return str(said.figures.get("version") or asked)


def _asked(deployment: Deployment) -> dict[str, object]:
    """Counts as numbers: ``2M`` and 2097152 are the same wish."""
    asked: dict[str, object] = dict(deployment.settings)
    for name in _COUNTS:
        if isinstance(value := asked.get(name), str):
            with suppress(ValueError):  # auto, or what only the engine can read
                asked[name] = parse_tokens(value)
    return asked


def _compare_window(
    deployment: Deployment, said: Words, plan: LocalPlan | None
) -> tuple[Comparison, ...]:
    """llama.cpp states what each of its slots holds; where they share it, each holds all."""
    window, slots = said.figures.get("window_tokens"), said.figures.get("slots")
    if plan is None or plan.window_tokens is None or not isinstance(window, int):
        return ()
    parts = 1 if deployment.settings.get("kv_unified") else int(slots or 1)
    return (
        Comparison(
            name="window of one slot",
            unit="tokens",
            engine=window,
            plan=plan.window_tokens // parts,
            source="ctx_size" if parts == 1 else "ctx_size / parallel",
        ),
    )


def _compare_pool(deployment: Deployment, said: Words) -> tuple[Comparison, ...]:
    """SGLang holds as many tokens as it is told to, in whole pages, unless memory holds fewer."""
    given, found = deployment.settings.get(_POOL), said.figures.get("kv_tokens")
    page = deployment.settings.get("page_size", 1)
    numbers = (given, found, page)
    if not all(isinstance(each, int) for each in numbers):
        return ()
    tokens, pages = int(str(given)), int(str(page))
    return (
        Comparison(
            name="KV cache size",
            unit="tokens",
            engine=float(str(found)),
            plan=tokens // pages * pages,
            source=_POOL if pages == 1 else f"{_POOL} in whole pages of {pages}",
        ),
    )


def _forecast(
    deployment: Deployment, version: str, device: str, memory: _Memory
) -> PoolForecast | None:
    try:
        return forecast_pool(
            deployment.model or "",
            version,
            deployment.settings,
            {**os.environ, **deployment.env},
            device=device,
            available_bytes=memory.size_bytes,
            source=memory.source,
            offline=deployment.target.kind == "offline",
        )
    except PlanError:
        return None  # the engine knows the model, the planner does not: nothing to compare


def _memory(deployment: Deployment, words: EngineWords, device: str | None) -> _Memory | None:
    """Exactly as given where that is so, else as the engine prints it."""
    given = given_cpu_bytes({**os.environ, **deployment.env}) if device == CPU else None
    if asked := _asked(deployment).get(_GIVEN):
        given = (int(str(asked)), f"{_GIVEN}={deployment.settings[_GIVEN]}")
    if given:
        return _Memory(*given, rounding=0.0)
    printed = words.figures.get("available_bytes")
    if not isinstance(printed, int) or not printed:
        return None
    return _Memory(printed, "the engine's available KV memory", _HALF_STEP * GIB / printed)


def _with_forecast(words: EngineWords, forecast: PoolForecast, rounding: float) -> EngineWords:
    planned = {
        "kv_tokens": ("KV cache size", "tokens", forecast.capacity_tokens, rounding),
        "concurrency": (
            "maximum concurrency",
            "x",
            forecast.concurrency,
            rounding + _HALF_STEP / max(forecast.concurrency, _HALF_STEP),
        ),
    }
    comparisons = tuple(
        Comparison(
            name=name,
            unit=unit,
            engine=float(words.figures[key]),
            plan=value,
            tolerance=tolerance,
            source=forecast.source,
        )
        for key, (name, unit, value, tolerance) in planned.items()
        if key in words.figures
    )
    return words.model_copy(
        update={
            "comparisons": (*words.comparisons, *comparisons),
            "max_request_tokens": forecast.max_request_tokens,
            "remedy": forecast.remedy,
        }
    )
