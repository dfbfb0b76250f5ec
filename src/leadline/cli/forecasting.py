"""What a campaign will take, shown before it starts; and the question, where it asks for one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from leadline.cli.terminal import console, echo_json
from leadline.errors import SpecError

if TYPE_CHECKING:
    from leadline.campaign.forecast import Forecast


def show_forecast(forecast: Forecast, *, as_json: bool) -> None:
    """All that ``--dry-run`` says."""
    from leadline.report.estimate_table import render_forecast

    if as_json:
        echo_json(_document(forecast))
        return
    budget, resumed = forecast.campaign.budget, forecast.resumed
    what = f"resumes {resumed.path}" if resumed else "a new run"
    click.echo(f"{forecast.campaign.name}: {what}; nothing was started")
    refused = forecast.refused
    console().print(render_forecast(forecast.estimate, forecast.turns, refused, budget))


def confirm_forecast(forecast: Forecast, *, yes: bool) -> None:
    """Show the estimate; ``SpecError`` where somebody should be asked and nobody is there."""
    from leadline.plan.estimate import find_excess
    from leadline.report.estimate_table import sum_up

    budget = forecast.campaign.budget
    for line in sum_up(forecast.estimate, forecast.refused, budget):
        click.echo(line, err=True)
    excess = list(find_excess(budget, forecast.estimate)) if _does_anything(forecast) else []
    if not excess or yes:
        return
    if not sys.stdin.isatty():
        raise SpecError(
            f"{'; '.join(excess)}: nobody is there to be asked, and nothing was started",
            where=forecast.campaign.name,
            cure="--yes, a higher budget.ask_above, a budget that ends the run earlier, or --only",
        )
    if not click.confirm(f"{'; '.join(excess)}. Start?", err=True):
        click.echo("nothing was started", err=True)
        raise click.Abort


def _does_anything(forecast: Forecast) -> bool:
    return forecast.estimate.is_search or forecast.estimate.trials > 0


def _document(forecast: Forecast) -> dict[str, object]:
    from leadline.plan.estimate import describe_estimate

    estimate = forecast.estimate
    return {
        "schema": "leadline.forecast/1",
        "campaign": forecast.campaign.name,
        "resumes": forecast.resumed.path.name if forecast.resumed else None,
        "estimate": describe_estimate(estimate, forecast.campaign.budget),
        "cells": [
            {
                "cell": entry.cell.key,
                "trials": entry.trials,
                "seconds": entry.seconds._asdict() if entry.seconds else None,
                "source": entry.source,
                "at_least": entry.at_least,
            }
            for entry in estimate.cells
        ],
        "starts": [{"deployment": s.deployment, "devices": s.devices} for s in estimate.starts],
        "infeasible": {
            entry.cell.key: entry.refusal._asdict() for entry in forecast.refused if entry.refusal
        },
        "order": [{"cell": turn.cell.key, "trial": turn.trial} for turn in forecast.turns],
    }
