"""``leadline render``: the files that start a deployment, each sized by its plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leadline.cli.options import json_option
from leadline.cli.terminal import echo_json
from leadline.errors import SpecError

if TYPE_CHECKING:
    from leadline.render.bundle import Kind
    from leadline.render.service import Service

_SCRIPT_MODE = 0o755
_KINDS = ["docker", "compose", "kubernetes", "shell", "python", "client", "helm"]


@click.command()
@click.argument("campaign_file", metavar="CAMPAIGN.yaml", type=click.Path(path_type=Path))
@click.option(
    "--as", "kinds", multiple=True, type=click.Choice(_KINDS), help="Default: all that suit."
)
@click.option("--deployment", "names", multiple=True, help="Default: every one of the campaign.")
@click.option(
    "--namespace", default="default", show_default=True, help="Of the Kubernetes objects."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to. Default: the campaign's name.",
)
@click.option("--try-infeasible", is_flag=True, help="Also what the plan says cannot work.")
@json_option
def render(
    campaign_file: Path,
    kinds: tuple[Kind, ...],
    names: tuple[str, ...],
    namespace: str,
    out: Path | None,
    try_infeasible: bool,
    as_json: bool,
) -> int:
    """Write what starts each deployment: docker, compose, Kubernetes, shell, Python.

    Exit code 1 if the plan says that a deployment cannot work: that one is not written.
    """
    from leadline.render.bundle import render_service, suitable_kinds
    from leadline.render.select import describe_services
    from leadline.spec import read_campaign

    campaign = read_campaign(campaign_file)
    services, refused = describe_services(campaign, names, try_infeasible=try_infeasible)
    folder = out or Path(campaign.name)
    written: list[str] = []
    for service in services:
        files = render_service(
            service,
            kinds or suitable_kinds(service),
            made_from=campaign_file.name,
            namespace=namespace,
        )
        written += [_write(folder / name, text) for name, text in files.items()]
    if as_json:
        echo_json({"written": written, "refused": refused})
    else:
        _tell(services, written, refused)
    return 1 if refused else 0


def _write(path: Path, text: str) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            path.chmod(_SCRIPT_MODE)
    except OSError as error:
        raise SpecError(
            f"cannot be written: {error.strerror}", where=str(path), cure="give another --out"
        ) from error
    return str(path)


def _tell(services: list[Service], written: list[str], refused: dict[str, str]) -> None:
    for path in written:
        click.echo(path)
    for key, reason in refused.items():
        click.echo(f"{key}: not written, the plan says: {reason}", err=True)
    if services:
        click.echo("each file tells what the plan says of it in its first lines", err=True)
