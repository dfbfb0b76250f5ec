"""``leadline audit``: can these numbers be what they are said to be?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leadline.cli.options import json_option
from leadline.cli.terminal import console, echo_json

if TYPE_CHECKING:
    from leadline.audit.claims import Claims
    from leadline.audit.objection import Objection

_YAML = {".yaml", ".yml"}


@click.command()
@click.argument("subject", metavar="CLAIMS.yaml|RESULT.json", type=click.Path(path_type=Path))
@click.option("--model", help="What was served, for a result file that does not tell.")
@click.option("--hardware", help="Where, for example 8xH200: then times are held against its peak.")
@click.option("--engine", help="Engine and version, for example vllm==0.12.0.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="An engine setting.")
@json_option
def audit(
    subject: Path,
    model: str | None,
    hardware: str | None,
    engine: str | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> int:
    """Hold somebody's numbers against what is possible; each objection shows its arithmetic.

    Takes a small YAML file of claims, or a result file of `vllm bench serve`, SGLang's client,
    GuideLLM, AIPerf or inference-perf. Exit code 1 if there is an objection.
    """
    from leadline.audit.rules import raise_objections

    claims = _read(subject, model, hardware, engine, sets)
    objections = raise_objections(claims)
    if as_json:
        echo_json(
            {
                "schema": "leadline.audit/1",
                "source": claims.source,
                "claims": len(claims.claims),
                "objections": [objection.model_dump() for objection in objections],
            }
        )
    else:
        _print(claims, objections)
    return 1 if objections else 0


def _read(
    subject: Path,
    model: str | None,
    hardware: str | None,
    engine: str | None,
    sets: tuple[str, ...],
) -> Claims:
    from leadline.audit.claims import read_claims
    from leadline.audit.results import read_results
    from leadline.cli.options import read_pairs

    if subject.suffix in _YAML:
        return read_claims(subject)
    found = read_results(subject, model, hardware)
    changes = {"engine": engine, "settings": read_pairs("--set", sets)}
    claims = tuple(claim.model_copy(update=changes) for claim in found.claims)
    return found.model_copy(update={"claims": claims})


def _print(claims: Claims, objections: list[Objection]) -> None:
    """Objections of one kind together: what they are is said once."""
    from itertools import groupby

    from rich.padding import Padding
    from rich.text import Text

    from leadline.audit.rules import titles

    out = console()
    out.print(Text(f"{claims.source}: {len(claims.claims)} claims", style="bold"))
    styles = {"wrong": "bold red", "unsupported": "yellow", "incomparable": "yellow"}
    named = titles()
    for code, group in groupby(sorted(objections, key=lambda item: item.code), lambda i: i.code):
        items = list(group)
        weight = items[0].weight
        out.print(Text.assemble((f"\n{code} ", "dim"), (weight, styles[weight]), f" {named[code]}"))
        for item in items:
            out.print(Padding(Text(f"{item.claim}: {item.said}", style="bold"), (0, 0, 0, 2)))
            out.print(Padding(Text(item.arithmetic), (0, 0, 0, 4)))
            out.print(Padding(Text(f"right: {item.right}", style="green"), (0, 0, 0, 4)))
        out.print(Padding(Text(f"source: {items[0].source}", style="dim"), (0, 0, 0, 2)))
    if not objections:
        out.print("  nothing to object to in what is said here; that is no proof that it is right")
