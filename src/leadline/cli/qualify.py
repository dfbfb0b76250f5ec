"""The verbs that run campaigns and show what came of them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.forecasting import confirm_forecast, show_forecast
from leadline.cli.options import (
    api_key_env_option,
    api_option,
    budget_option,
    engine_option,
    find_run,
    fresh_option,
    json_option,
    prompt_as_option,
    read_tokens,
    runs_option,
    tokenizer_option,
)
from leadline.cli.running import (
    change_budget,
    check_options,
    describe_server,
    report_forecast,
    report_run,
    run_and_report,
    run_on_server,
)
from leadline.cli.terminal import console, echo_json

if TYPE_CHECKING:
    from leadline.spec import Campaign


@click.command()
@runs_option
@fresh_option
@json_option
@click.option("--show", is_flag=True, help="Print the campaign file and stop.")
def quickstart(runs_root: Path, fresh: bool, as_json: bool, show: bool) -> int:
    """Qualify a small real model on a small real engine, on this machine, in minutes."""
    from leadline.campaign.work import RunOptions
    from leadline.spec import parse_campaign

    text = (files("leadline") / "examples" / "quickstart.yaml").read_text(encoding="utf-8")
    if show:
        click.echo(text, nl=False)
        return 0
    campaign = parse_campaign(text, source="quickstart.yaml")
    return run_and_report(campaign, text, RunOptions(runs_root, fresh=fresh), as_json=as_json)


@click.command()
@click.argument("campaign_file", metavar="CAMPAIGN.yaml", type=click.Path(path_type=Path))
@runs_option
@fresh_option
@click.option("--try-infeasible", is_flag=True, help="Start even what the plan rules out.")
@click.option(
    "--only",
    multiple=True,
    metavar="CELL",
    help="These cells alone, by id, glob, deployment or label (input_tokens=1k); the run goes on "
    "with the others later.",
)
@budget_option
@click.option("--dry-run", is_flag=True, help="Show cells, order and estimate; start nothing.")
@click.option("--yes", is_flag=True, help="Do not ask, whatever the estimate says.")
@json_option
def run(
    campaign_file: Path,
    runs_root: Path,
    budget: tuple[str, ...],
    as_json: bool,
    dry_run: bool,
    yes: bool,
    **options: Any,
) -> int:
    """Run a campaign: every deployment, every workload, every failure a result."""
    from leadline.campaign.forecast import forecast_run
    from leadline.campaign.work import RunOptions
    from leadline.spec import read_campaign

    campaign = change_budget(read_campaign(campaign_file), budget)
    forecast = forecast_run(campaign, RunOptions(runs_root, **options))
    if dry_run:
        show_forecast(forecast, as_json=as_json)
        return 0
    confirm_forecast(forecast, yes=yes)
    text = campaign_file.read_text(encoding="utf-8")
    return report_forecast(forecast, text, as_json=as_json)


@click.command()
@click.option("--url", required=True, help="Address of an OpenAI-compatible server.")
@click.option("--model", required=True, help="Model name that the server serves.")
@click.option(
    "--input-tokens", default="max", show_default=True, help="Exact prompt length, or max."
)
@click.option("--output-tokens", default="200", show_default=True, help="Tokens to generate.")
@click.option("--repeats", default=1, show_default=True, help="Trials, each with a fresh prompt.")
@click.option(
    "--corpus",
    multiple=True,
    default=("kjv",),
    show_default=True,
    help="UTF-8 text file or catalog name; several are joined in order.",
)
@click.option("--needles", default=1, show_default=True, help="Passkeys to hide and ask for.")
@prompt_as_option
@api_option
@tokenizer_option
@engine_option
@click.option("--max-model-len", help="The window, where the server does not tell it.")
@api_key_env_option
@click.option("--seed", type=int, help="Repeat these very prompts. Default: fresh ones.")
@click.option("--cold/--any-cache", default=True, help="Require that no prompt token was cached.")
@click.option(
    "--limit-probes/--no-limit-probes", default=True, help="Also probe the window's edge."
)
@runs_option
@json_option
def prove(runs_root: Path, as_json: bool, **options: Any) -> int:
    """Prove that a running server really reads N tokens, cold, and measure it."""
    campaign = _prove_campaign(**options)
    return run_on_server(campaign, runs_root, as_json=as_json)


@click.command()
@click.argument("run_name", metavar="RUN")
@runs_option
@json_option
def report(run_name: str, runs_root: Path, as_json: bool) -> int:
    """Render a run again from its journal alone. RUN is a directory, an id, or 'last'."""
    return report_run(find_run(run_name, runs_root), as_json=as_json)


@click.command()
@runs_option
@json_option
def runs(runs_root: Path, as_json: bool) -> int:
    """List the runs, oldest first."""
    from leadline.report.listing import describe_runs
    from leadline.report.tables import print_runs

    rows = describe_runs(runs_root)
    if as_json:
        echo_json(rows)
    elif rows:
        print_runs(console(), rows)
    else:
        click.echo(f"no runs in {runs_root}/; `leadline quickstart` makes one")
    return 0


def _prove_campaign(**options: Any) -> Campaign:
    workload = (
        "input_tokens", "output_tokens", "repeats", "corpus", "needles", "prompt_as", "cold",
        "limit_probes", "api",
    )  # fmt: skip
    server = describe_server(options)
    if window := options["max_model_len"]:
        server["settings"] = {"max_model_len": read_tokens("--max-model-len", window)}
    return check_options(
        "prove",
        {
            "name": "prove",
            "model": options["model"],
            "seed": options["seed"],
            "deployments": {"server": server},
            "workload": {name: options[name] for name in workload},
        },
    )
