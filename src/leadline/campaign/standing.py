"""``leadline up``: from a deployment of a campaign to a service that stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

import aiohttp

from leadline.campaign.containers import Contained, contain
from leadline.campaign.failures import explain_start
from leadline.campaign.serving import plan_launch
from leadline.deploy.log import Redact
from leadline.deploy.process import ProcessTarget
from leadline.deploy.standing import Services
from leadline.deploy.target import OnPhase, StartError, deployed
from leadline.errors import EngineError, PlanError, SpecError
from leadline.journal import Redactor
from leadline.launch import Endpoint, Launch
from leadline.load.server import Server, open_session
from leadline.records import Finding
from leadline.spec import Campaign, Cell, DockerTarget

PORT = 8000
# Lazy: a platform's client is imported only where it is used.
_PLATFORMS = {"docker": "leadline.deploy.docker_services:DockerServices"}
_TOKEN_S = 300
_OK = 200


@dataclass(frozen=True)
class Wanted:
    """A deployment that shall be up."""

    key: str
    engine: str
    kind: str
    launch: Launch
    start_limit_s: float


def open_services(kind: str, redact: Redact = str) -> Services:
    if kind not in _PLATFORMS:
        raise SpecError(
            f"nothing stays up on target {kind}",
            where="--target",
            cure=f"use one of {', '.join(_PLATFORMS)}, or process for the foreground",
        )
    module, _, name = _PLATFORMS[kind].partition(":")
    make: Callable[[Redact], Services] = getattr(import_module(module), name)
    return make(redact)


def choose_deployment(campaign: Campaign, name: str | None) -> tuple[str, list[Cell]]:
    """The one that is named, or the only one. ``SpecError`` with those that there are."""
    groups = campaign.starts()
    fitting = [key for key in groups if name is None or key == name or key.split("/")[0] == name]
    if len(fitting) != 1:
        raise SpecError(
            f"{len(fitting)} deployments fit" if name else "the campaign has several deployments",
            where="--deployment",
            cure=f"name one of: {', '.join(fitting or groups)}",
        )
    return fitting[0], groups[fitting[0]]


def want(
    campaign: Campaign, name: str | None, kind: str | None, port: int | None, *, force: bool
) -> Wanted:
    """What ``up`` starts. ``PlanError`` for what the plan rules out."""
    key, cells = choose_deployment(campaign, name)
    target = cells[0].settings.target
    chosen = kind or target.kind
    if chosen not in _PLATFORMS:
        open_services(chosen)
    contained = contain(campaign, key, _on(cells, chosen))
    _require_feasible(contained, force=force)
    own_port = getattr(target, "port", None)
    launch = replace(contained.launch, port=port or own_port or PORT)
    engine = cells[0].settings.engine_name or ""
    return Wanted(key, engine, chosen, launch, contained.start_limit_s)


async def raise_service(wanted: Wanted, redact: Redact, on_phase: OnPhase) -> Endpoint:
    """Ready: healthy, the model listed, one token generated."""

    async def check(endpoint: Endpoint) -> None:
        async with open_session() as session:
            await require_token(session, endpoint, on_phase)

    services = open_services(wanted.kind, redact)
    return await services.up(wanted.launch, wanted.engine, wanted.start_limit_s, on_phase, check)


async def require_token(
    session: aiohttp.ClientSession, endpoint: Endpoint, on_phase: OnPhase
) -> None:
    """Health is not enough: an engine can answer 200 while it generates nothing."""
    on_phase("asking for its models")
    await Server(session, endpoint).require_model()
    on_phase("generating a first token")
    body = {"model": endpoint.model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    try:
        async with session.post(
            f"{endpoint.url}/v1/completions",
            json=body,
            headers=dict(endpoint.headers),
            timeout=aiohttp.ClientTimeout(total=_TOKEN_S),
        ) as answer:
            status, text = answer.status, await answer.text()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        status, text = 0, str(error) or type(error).__name__
    if status != _OK:
        raise EngineError(
            f"it is healthy and lists its model, but generates no token: {text[:300]}",
            where=endpoint.url,
            cure="read its log: leadline logs",
        )


async def serve_here(
    campaign: Campaign,
    name: str,
    port: int | None,
    redact: Redactor,
    on_phase: OnPhase,
    tell: Callable[[str], object],
) -> int:
    """A server of this terminal, until it is interrupted or ends by itself."""
    _, cells = choose_deployment(campaign, name)
    deployment = cells[0].settings
    launch = plan_launch(deployment, port or getattr(deployment.target, "port", None) or PORT)
    target = ProcessTarget(redact)
    start_s = campaign.timeouts.start_s
    async with deployed(target, launch, Path(os.devnull), start_s, on_phase) as endpoint:
        async with open_session() as session:
            await require_token(session, endpoint, on_phase)
        tell(endpoint.url)
        on_phase("ready; Ctrl-C ends it")
        await target.exited(within_s=inf)
        on_phase(f"the server ended: {target.exit_status()}")
        for line in target.log_tail():
            on_phase(line)
    return 2


def explain_failure(error: StartError) -> Finding:
    return explain_start(error)


def _on(cells: list[Cell], kind: str) -> list[Cell]:
    """The same deployment as a container, where its own target is another."""
    target: Any = cells[0].settings.target
    if kind == target.kind or kind != "docker":
        return cells
    settings = cells[0].settings.model_copy(update={"target": DockerTarget()})
    return [cell.model_copy(update={"settings": settings}) for cell in cells]


def _require_feasible(contained: Contained, *, force: bool) -> None:
    if contained.refusal and not force:
        raise PlanError(
            f"the plan says it cannot work: {contained.refusal.reason}",
            where=contained.name,
            cure=f"{contained.refusal.cure}; or --try-infeasible",
        )
