"""``leadline doctor``: is this machine ready for that campaign?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leadline.cli.options import json_option
from leadline.cli.terminal import console, echo_json

if TYPE_CHECKING:
    from leadline.preflight.check import Check

_SCHEMA = "leadline.doctor/1"
_SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}


@click.command()
@click.argument(
    "campaign_file", metavar="[CAMPAIGN.yaml]", required=False, type=click.Path(path_type=Path)
)
@json_option
def doctor(campaign_file: Path | None, as_json: bool) -> int:
    """Look at devices, host, Docker, cluster and hub before time is spent, and name each cure.

    With a campaign, against what its plans need: exit code 1 if something that it needs fails.
    What is absent and not needed is said, and no failure.
    """
    from leadline.preflight.check import Needs, read_needs
    from leadline.preflight.doctor import examine
    from leadline.spec import read_campaign

    needs = read_needs(read_campaign(campaign_file)) if campaign_file else Needs()
    found = []
    for check in examine(needs):
        found.append(check)
        if not as_json:
            _show(check)
    if as_json:
        echo_json({"schema": _SCHEMA, "checks": found})
    return 1 if any(check.state == "fail" for check in found) else 0


def _show(check: Check) -> None:
    from rich.text import Text

    sign, style = _SIGNS.get(check.state, ("–", "dim"))
    text = Text.assemble((sign, style), f" {check.name}: {check.found}")
    if check.cure:
        text.append(f"\n    cure: {check.cure}")
    console().print(text, soft_wrap=True)
