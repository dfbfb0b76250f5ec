"""``leadline up``, ``status``, ``logs``, ``down``: services that stay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.options import json_option
from leadline.cli.terminal import console, echo_json
from leadline.errors import SpecError

if TYPE_CHECKING:
    from leadline.campaign.standing import Wanted
    from leadline.campaign.status import Look
    from leadline.deploy.standing import Shown, Standing
    from leadline.report.status_page import ServiceRow
    from leadline.spec import Campaign

_SCHEMA = "leadline.status/1"
_INTERVAL_S = 2.0
_LOOKS = 8
"""Rates go back so far."""
_context_option = click.option("--context", help="Of the kubeconfig. Default: the current one.")
_namespace_option = click.option("--namespace", "-N", help="Default: the context's.")
_KIND_HELP = "docker or kubernetes."


def _place_options(command: Any) -> Any:
    """Where services stand: ``--target``, and of a cluster its context and namespace."""
    kind = click.option("--target", "kind", default="docker", show_default=True, help=_KIND_HELP)
    return kind(_context_option(_namespace_option(command)))


@click.command()
@click.argument("campaign_file", metavar="CAMPAIGN.yaml", type=click.Path(path_type=Path))
@click.option("--deployment", "name", help="Default: the campaign's only one.")
@click.option("--target", "kind", help="docker, kubernetes or process. Default: the deployment's.")
@_context_option
@_namespace_option
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="On 127.0.0.1. Default: 8000; of a cluster a free one.",
)
@click.option("--try-infeasible", is_flag=True, help="Also what the plan says cannot work.")
@json_option
def up(
    campaign_file: Path,
    name: str | None,
    kind: str | None,
    context: str | None,
    namespace: str | None,
    port: int | None,
    try_infeasible: bool,
    as_json: bool,
) -> int:
    """Start a deployment as a service that stays, wait until it is ready, print its address.

    What runs is what `leadline render` writes. Ready means: healthy, the model listed, one token
    generated. Interrupted or failed, `up` takes away what it started; a service that is up already
    is left as it is. With --target process the server runs until you press Ctrl-C. In a cluster
    the address is the Service's; --port is only asked through while it becomes ready.
    """
    from leadline.campaign.standing import Place, choose_deployment, want
    from leadline.spec import read_campaign

    campaign = read_campaign(campaign_file)
    key, cells = choose_deployment(campaign, name)
    if (kind or cells[0].settings.target.kind) == "process":
        return _serve_here(campaign, key, port)
    place = Place(kind, context, namespace)
    wanted = want(campaign, key, place, port, force=try_infeasible)
    return _raise(campaign, wanted, as_json=as_json)


@click.command()
@click.argument("name", required=False)
@_place_options
@click.option("--url", help="Of any server instead, whoever runs it: http://HOST:PORT.")
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@json_option
def status(
    name: str | None,
    url: str | None,
    kind: str,
    context: str | None,
    namespace: str | None,
    watch: bool,
    as_json: bool,
) -> int:
    """Show what is up: state, load, KV cache, rates, devices, last warnings.

    Exit code 1 if a service is not ready.
    """
    from leadline.campaign.platforms import name_platform, open_services
    from leadline.cli.running import await_work
    from leadline.deploy.endpoint import Foreign

    services: Shown = (
        Foreign(url) if url else open_services(name_platform(kind, context, namespace))
    )
    try:
        return await_work(_show_status(services, name, watch=watch, as_json=as_json))
    except KeyboardInterrupt:
        return 130  # of a look, which stops nothing


@click.command()
@click.argument("name", required=False)
@_place_options
@click.option("-f", "--follow", is_flag=True, help="And what comes, until Ctrl-C.")
@click.option("-n", "--lines", default=200, show_default=True, help="How many; 0 for all.")
@click.option("-p", "--previous", is_flag=True, help="Of the container before the present one.")
def logs(
    name: str | None,
    kind: str,
    context: str | None,
    namespace: str | None,
    follow: bool,
    lines: int,
    previous: bool,
) -> int:
    """Print the log of a service, without its secrets."""
    from leadline.campaign.platforms import name_platform, open_services
    from leadline.cli.running import known_secrets
    from leadline.journal import Redactor

    services = open_services(name_platform(kind, context, namespace))
    redact = Redactor(known_secrets(()))
    chosen = _choose(services.services(), name)
    try:
        found = services.log(chosen.name, follow=follow, lines=lines, previous=previous)
        for line in found:
            click.echo(redact(line.decode(errors="replace")), nl=False)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130  # the service goes on
    return 0


@click.command()
@click.argument("names", nargs=-1)
@_place_options
@click.option("--all", "everything", is_flag=True, help="All that Leadline ever started there.")
@click.option("--volumes", is_flag=True, help="Also its volumes: weights and compiled code.")
@json_option
def down(
    names: tuple[str, ...],
    kind: str,
    context: str | None,
    namespace: str | None,
    everything: bool,
    volumes: bool,
    as_json: bool,
) -> int:
    """Take services away. NAME is a service, or a run whose containers a killed Leadline left.

    Only what carries Leadline's label is touched.
    """
    from leadline.campaign.platforms import name_platform, open_services

    services = open_services(name_platform(kind, context, namespace))
    told: list[str] = []
    for standing in _choose_all(services.services(), names, everything=everything):
        told += services.down(standing.name, volumes=volumes)
    if as_json:
        echo_json({"down": told})
    else:
        click.echo("\n".join(told) or "nothing of Leadline is there")
    return 0


def _raise(campaign: Campaign, wanted: Wanted, *, as_json: bool) -> int:
    from leadline.campaign.standing import explain_failure, next_steps, raise_service
    from leadline.cli.running import await_work, campaign_secrets
    from leadline.deploy.target import StartError
    from leadline.journal import Redactor
    from leadline.units import show_seconds

    screen = console(stderr=True)
    name, kind = wanted.name, wanted.target.kind
    limit = show_seconds(wanted.service.start_limit_s)
    screen.print(f"{name}: starting on {kind}; given up after {limit}", highlight=False)
    work = raise_service(
        wanted,
        Redactor(campaign_secrets(campaign)),
        lambda phase: screen.print(f"{name}: {phase}", highlight=False, markup=False),
    )
    try:
        endpoint = await_work(work)
    except StartError as error:
        finding = explain_failure(error)
        click.echo(f"leadline: {error.where}: {error.what}", err=True)
        click.echo(f"  {finding.code} {finding.title}", err=True)
        for line in finding.evidence:
            click.echo(f"  | {line}", err=True)
        click.echo(
            f"  cure: {error.cure or finding.remedy}\n  what was started is gone again", err=True
        )
        return error.exit_code
    except KeyboardInterrupt:
        click.echo(f"\n{name}: interrupted; what this command started is gone again", err=True)
        return 130
    if as_json:
        echo_json({"name": name, "url": endpoint.url, "model": endpoint.model})
    else:
        click.echo(endpoint.url)
        screen.print(f"{name}: ready, model {endpoint.model}", highlight=False)
        for line in next_steps(wanted):
            screen.print(f"  {line}", highlight=False, soft_wrap=True)
    return 0


def _serve_here(campaign: Campaign, key: str, port: int | None) -> int:
    """A process ends with the one that started it: to stay, it needs a platform."""
    from leadline.campaign.standing import serve_here
    from leadline.cli.running import await_work, campaign_secrets
    from leadline.journal import Redactor

    def show(text: str) -> None:
        click.echo(f"{key}: {text}", err=True)

    redact = Redactor(campaign_secrets(campaign))
    return await_work(serve_here(campaign, key, port, redact, show, click.echo))


async def _show_status(services: Shown, name: str | None, *, watch: bool, as_json: bool) -> int:
    import asyncio
    from collections import defaultdict, deque

    from rich.live import Live

    from leadline.campaign.status import look_at, measure_devices
    from leadline.cli.running import known_secrets
    from leadline.journal import Redactor
    from leadline.load.server import open_session
    from leadline.report.status_page import status_page

    looks: dict[str, deque[Look]] = defaultdict(lambda: deque(maxlen=_LOOKS))
    redact = Redactor(known_secrets(()))

    async def look() -> list[Look]:
        standing = await asyncio.to_thread(services.services)
        chosen = [each for each in standing if name in (None, each.name)]
        async with open_session() as session:
            for each in chosen:
                past = looks[each.name]
                before = next((earlier for earlier in past if earlier.counters), None)
                past.append(await look_at(session, services, each, before, redact))
        return [looks[each.name][-1] for each in chosen]

    found = await look()
    if name and not found:
        raise SpecError(f"no service {name!r} is there", where="NAME", cure="leadline status")
    if any(each.counters for each in found):  # a rate needs two looks
        await asyncio.sleep(1)
        found = await look()
    if as_json:
        facts = [_facts(each) for each in found]
        echo_json({"schema": _SCHEMA, "services": facts, "devices": measure_devices()})
    elif not found:
        click.echo("nothing of Leadline is up; leadline up CAMPAIGN.yaml starts a deployment")
    elif not watch:
        console().print(status_page([_row(each) for each in found], measure_devices()))
    else:
        with Live(console=console(), auto_refresh=False, screen=console().is_terminal) as live:
            while True:
                page = status_page([_row(each) for each in await look()], measure_devices())
                live.update(page, refresh=True)
                await asyncio.sleep(_INTERVAL_S)
    return 0 if all(each.phase == "ready" for each in found) else 1


def _row(look: Look) -> ServiceRow:
    from leadline.campaign.status import share_cached
    from leadline.report.status_page import ServiceRow

    standing = look.standing
    return ServiceRow(
        name=standing.name,
        state=standing.state,
        rates_over_s=look.rates_over_s,
        phase="killed: over its memory limit" if standing.out_of_memory else look.phase,
        url=standing.url if standing.url and standing.url != standing.name else "",
        engine=look.engine or standing.engine,
        restarts=standing.restarts,
        gauges=look.gauges,
        rates=look.rates,
        cached_share=share_cached(look),
        warnings=look.warnings,
    )


def _facts(look: Look) -> dict[str, Any]:
    from dataclasses import asdict

    return {name: value for name, value in asdict(look).items() if name != "at_s"}


def _choose(found: list[Standing], name: str | None) -> Standing:
    fitting = [each for each in found if name in (None, each.name)]
    if len(fitting) == 1:
        return fitting[0]
    raise SpecError(
        f"no service {name!r} is there" if name else f"{len(found)} services are there",
        where="NAME",
        cure=f"name one of: {', '.join(each.name for each in found) or 'none is up'}",
    )


def _choose_all(
    found: list[Standing], names: tuple[str, ...], *, everything: bool
) -> list[Standing]:
    """By name or by run; without either the only service."""
    if everything:
        return found
    if not names:
        return [_choose([each for each in found if each.owner in ("", "up")], None)]
    chosen = []
    for name in names:
        fitting = [each for each in found if each.name == name or _is_of_run(each, name)]
        chosen += fitting or [_choose(found, name)]
    return chosen


def _is_of_run(standing: Standing, name: str) -> bool:
    return standing.owner != "up" and standing.owner.rpartition("-")[0] == name
