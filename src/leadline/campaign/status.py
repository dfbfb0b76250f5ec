"""One look at a standing service: its state, what it counts, what it last complained of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from leadline.deploy.endpoint import reach
from leadline.deploy.health import is_healthy
from leadline.deploy.log import Redact, read_phase
from leadline.deploy.standing import Shown, Standing
from leadline.engines.engine import Engine, LaunchRequest, load_engine
from leadline.errors import LeadlineError
from leadline.launch import Endpoint, Launch
from leadline.load.server import Server
from leadline.metrics.devices import open_devices
from leadline.metrics.scrape import growth
from leadline.spec import EndpointTarget

_TAIL = 400
_WARNING = re.compile(r"\b(WARN|WARNING|ERROR|CRITICAL|FATAL)\b|Traceback", re.IGNORECASE)
_SHOWN = 3
_HTTP = 80


@dataclass(frozen=True)
class Look:
    at_s: float
    standing: Standing
    phase: str
    """``ready``, what it is doing while it starts, or how it ended."""
    engine: str = ""
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    """Growth of the counters per second since an earlier look."""
    rates_over_s: float = 0.0
    """How long before: an engine may count a request only at its end."""
    warnings: tuple[str, ...] = ()


async def look_at(
    session: aiohttp.ClientSession,
    services: Shown,
    standing: Standing,
    before: Look | None,
    redact: Redact = str,
) -> Look:
    """What cannot be asked is left out; nothing is raised."""
    log = [redact(line) for line in await asyncio.to_thread(_read_tail, services, standing.name)]
    warnings = tuple(line for line in log if _WARNING.search(line))[-_SHOWN:]
    if not standing.is_alive:
        phase = standing.exit_status or standing.waits or standing.state
        return Look(monotonic(), standing, phase, warnings=warnings)
    async with services.reach(standing) as url:
        if url is None or not await is_healthy(session, _launch(url, standing)):
            return Look(monotonic(), standing, _phase(standing, log), warnings=warnings)
        endpoint = reach(EndpointTarget(url=url), standing.model)
        found = await _ask(session, endpoint, standing, before)
        return replace(found, warnings=warnings)


async def _ask(
    session: aiohttp.ClientSession, endpoint: Endpoint, standing: Standing, before: Look | None
) -> Look:
    server = Server(session, endpoint)
    engine = await _recognise(server)
    gauges, counters = await _measure(server, engine)
    now = monotonic()
    return Look(
        at_s=now,
        standing=standing,
        phase="ready",
        engine=engine.name,
        gauges=gauges,
        counters=counters,
        rates=_rates(before, counters, now),
        rates_over_s=now - before.at_s if before else 0.0,
    )


def measure_devices() -> list[dict[str, Any]]:
    """Accelerators and the machine, each as one line of telemetry."""
    return list(open_devices(None, 1.0)())


def share_cached(look: Look) -> float | None:
    """Of all prompt tokens since the service started."""
    cached = look.counters.get("cached_tokens")
    asked = look.counters.get("queried_tokens") or look.counters.get("prompt_tokens")
    if cached is None or asked is None:
        return None
    if not load_engine(look.engine).counts_cached:
        asked += cached
    return cached / asked if asked else None


def _read_tail(services: Shown, name: str) -> list[str]:
    try:
        lines = services.log(name, follow=False, lines=_TAIL)
        return [line.decode(errors="replace").rstrip() for line in lines]
    except LeadlineError:
        return []


def _launch(url: str, standing: Standing) -> Launch:
    parts = urlsplit(url)
    return Launch(
        argv=(),
        host=parts.hostname or "",
        port=parts.port or _HTTP,
        served_model=standing.model,
    )


def _phase(standing: Standing, log: list[str]) -> str:
    if standing.waits or not standing.state:
        return standing.waits or "does not answer"
    phases = _phases(standing.engine)
    last = next((found for line in reversed(log) if (found := read_phase(line, phases))), None)
    return last or "starting"


def _phases(name: str) -> tuple[tuple[str, str], ...]:
    try:
        launch = load_engine(name).launch
        return launch(LaunchRequest("model", 1, {}, {}, "x")).phases if launch else ()
    except LeadlineError:
        return ()


async def _recognise(server: Server) -> Engine:
    try:
        return await server.recognise()
    except LeadlineError:
        return load_engine("openai")


async def _measure(server: Server, engine: Engine) -> tuple[dict[str, float], dict[str, float]]:
    try:
        return await server.gauges(engine), await server.counters(engine)
    except LeadlineError:
        return {}, {}


def _rates(before: Look | None, counters: Mapping[str, float], now: float) -> dict[str, float]:
    if before is None or not before.counters or now <= before.at_s:
        return {}
    passed = now - before.at_s
    return {name: more / passed for name, more in growth(before.counters, counters).items()}
