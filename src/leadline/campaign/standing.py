"""``leadline up``: from a deployment of a campaign to a service that stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import NamedTuple

import aiohttp

from leadline.campaign.containers import Contained, contain
from leadline.campaign.failures import explain_start
from leadline.campaign.platforms import name_platform, open_services
from leadline.campaign.serving import plan_launch
from leadline.deploy.log import Redact
from leadline.deploy.process import ProcessTarget, free_port
from leadline.deploy.target import OnPhase, StartError, deployed
from leadline.errors import EngineError, PlanError, SpecError
from leadline.journal import Redactor
from leadline.launch import Endpoint
from leadline.load.server import Server, open_session
from leadline.records import Finding
from leadline.render.service import Service
from leadline.spec import Campaign, Cell, ContainerTarget, Deployment, KubernetesTarget
from leadline.spec import ProcessTarget as OnThisMachine

PORT = 8000
_ANYWHERE = ("image", "pull", "executable", "devices", "shm_size", "memory", "env_file")
"""What of a target is true on every platform; folders and ports are of one machine."""
_TOKEN_S = 300
_OK = 200


class Place(NamedTuple):
    """Where, as a command line says it; what it leaves out is the deployment's or the cluster's."""

    kind: str | None = None
    context: str | None = None
    namespace: str | None = None


@dataclass(frozen=True)
class Wanted:
    """A deployment that shall be up."""

    service: Service
    target: ContainerTarget
    asked_port: int | None = None

    @property
    def name(self) -> str:
        return self.service.name

    @property
    def port(self) -> int:
        """Of 127.0.0.1. A cluster's server is asked through it only until it is ready."""
        if self.asked_port is None and isinstance(self.target, KubernetesTarget):
            return free_port()
        return self.asked_port or PORT


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
    campaign: Campaign, name: str | None, place: Place, port: int | None, *, force: bool
) -> Wanted:
    """What ``up`` starts. ``PlanError`` for what the plan rules out."""
    key, cells = choose_deployment(campaign, name)
    target = _choose_target(cells[0], place)
    contained = contain(campaign, key, [_on(cell, target) for cell in cells])
    _require_feasible(contained, force=force)
    return Wanted(contained.service, target, port or target.port)


async def raise_service(wanted: Wanted, redact: Redact, on_phase: OnPhase) -> Endpoint:
    """Ready: healthy, the model listed, one token generated."""

    async def check(endpoint: Endpoint) -> None:
        async with open_session() as session:
            await require_token(session, endpoint, on_phase)

    services = open_services(wanted.target, redact)
    return await services.up(wanted.service, wanted.port, on_phase, check)


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
    deployment = _here(cells[0].settings)
    launch = plan_launch(deployment, port or getattr(deployment.target, "port", None) or PORT)
    target = ProcessTarget(redact)
    start_s = campaign.timeouts.limit_start()
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


def next_steps(wanted: Wanted) -> Iterator[str]:
    """Commands for what is up, as they can be typed; those of a cluster name the place."""
    name, target = wanted.name, wanted.target
    if not isinstance(target, KubernetesTarget):
        yield f"leadline status | logs | down {name}"
        return
    place = {"--context": target.context, "--namespace": target.namespace}
    given = " ".join(f"{option} {value}" for option, value in place.items() if value)
    yield f"leadline status | logs | down {name} --target kubernetes {given}".rstrip()
    yield f"kubectl {given} port-forward service/{name} {wanted.asked_port or PORT}:80".replace(
        "  ", " "
    )


def explain_failure(error: StartError) -> Finding:
    return explain_start(error)


def _choose_target(cell: Cell, place: Place) -> ContainerTarget:
    """The deployment's own where it is of that kind; what the command says takes precedence.

    Of another kind it keeps what any platform of containers is told.
    """
    own = cell.settings.target
    named = name_platform(place.kind or own.kind, place.context, place.namespace)
    if not isinstance(own, ContainerTarget):
        return named
    if own.kind != named.kind:
        return named.model_copy(update={field: getattr(own, field) for field in _ANYWHERE})
    return own.model_copy(
        update=named.model_dump(include={"context", "namespace"}, exclude_none=True)
    )


def _here(deployment: Deployment) -> Deployment:
    """As a process, where its own target is another."""
    if deployment.target.kind == "process":
        return deployment
    return deployment.model_copy(update={"target": OnThisMachine()})


def _on(cell: Cell, target: ContainerTarget) -> Cell:
    settings = cell.settings.model_copy(update={"target": target})
    return cell.model_copy(update={"settings": settings})


def _require_feasible(contained: Contained, *, force: bool) -> None:
    if contained.refusal and not force:
        raise PlanError(
            f"the plan says it cannot work: {contained.refusal.reason}",
            where=contained.service.name,
            cure=f"{contained.refusal.cure}; or --try-infeasible",
        )
