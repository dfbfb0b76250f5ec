"""``leadline bench``: what a running server does under load."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.options import (
    api_key_env_option,
    engine_option,
    json_option,
    prompt_as_option,
    read_tokens,
    runs_option,
    tokenizer_option,
)
from leadline.cli.terminal import console, echo_json
from leadline.errors import SpecError

if TYPE_CHECKING:
    from leadline.metrics.load_verdict import LoadSettings


@click.command()
@click.option("--url", required=True, help="Address of an OpenAI-compatible server.")
@click.option("--model", required=True, help="Model name that the server serves.")
@click.option("--input-tokens", default="1000", show_default=True, help="Exact prompt length.")
@click.option("--output-tokens", default="200", show_default=True, help="Tokens to generate.")
@click.option("--requests", type=int, help="Requests in all. Default: 100, or the whole trace.")
@click.option("--concurrency", type=int, help="Users who wait for their answer: a closed loop.")
@click.option("--rate", type=float, help="Requests a second, whatever is answered: an open loop.")
@click.option(
    "--arrivals",
    type=click.Choice(["poisson", "constant", "bursts", "ramp"]),
    default="poisson",
    show_default=True,
    help="How an open loop's requests come.",
)
@click.option("--burst", default=1, show_default=True, help="Requests at once, for bursts.")
@click.option("--last-rate", type=float, help="Where a ramp ends.")
@click.option("--trace", help="Replay JSON lines: timestamp (ms), input_length, output_length.")
@click.option("--warmup", type=int, help="Requests before that do not count. Default: 1 per user.")
@click.option("--ttft-goal", type=float, help="Seconds to the first token, for goodput.")
@click.option("--itl-goal", type=float, help="Seconds between tokens, for goodput.")
@click.option("--first-token-s", default=600.0, show_default=True, help="Patience, in seconds.")
@click.option("--between-tokens-s", default=120.0, show_default=True, help="Patience, in seconds.")
@prompt_as_option
@click.option("--corpus", default="kjv", show_default=True, help="UTF-8 text file or catalog name.")
@tokenizer_option
@engine_option
@api_key_env_option
@click.option("--seed", type=int, help="Repeat these very prompts and times. Default: fresh ones.")
@runs_option
@json_option
def bench(runs_root: Path, as_json: bool, **options: Any) -> int:
    """Put a load on a running server and measure it: TTFT, ITL, TPOT, throughput, goodput.

    Exit code 0 if every request was answered as asked; 1 if not, or if this client was itself the
    bottleneck (inconclusive); 2 if none was answered.
    """
    from leadline.campaign.bench import run_bench
    from leadline.cli.qualify import await_work, known_secrets
    from leadline.journal import Redactor

    settings = _settings(options)
    redact = Redactor(known_secrets([settings.api_key_env]))
    click.echo(f"loading {settings.url}, {_pattern(settings)}", err=True)
    path = await_work(run_bench(settings, runs_root, redact))
    return report_load(path, as_json=as_json)


def is_load(path: Path) -> bool:
    from leadline.journal import Run

    return Run(path).facts.get("kind") == "load"


def report_load(path: Path, *, as_json: bool) -> int:
    """Derive a load's verdict from its journal, write its report, and show it."""
    import orjson

    from leadline.journal import Run, write_whole
    from leadline.metrics.load_verdict import LOAD_SCHEMA, judge_load
    from leadline.report.load_page import write_load_report
    from leadline.report.load_table import render_load

    run = Run(path)
    verdict = judge_load(run)
    document = {"schema": LOAD_SCHEMA, **verdict.model_dump(mode="json")}
    written = path / "report.json"
    write_whole(written, orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    pages = write_load_report(run, verdict)
    if as_json:
        echo_json(document)
    else:
        console().print(render_load(verdict))
        click.echo("\n" + "\n".join(f"  {page}" for page in (*pages, written)))
    return verdict.exit_code


def _settings(options: dict[str, Any]) -> LoadSettings:
    from pydantic import ValidationError

    from leadline.campaign.bench import read_settings

    for name in ("input_tokens", "output_tokens"):
        options[name] = read_tokens(f"--{name.replace('_', '-')}", options[name])
    options["ttft_goal_s"] = options.pop("ttft_goal")
    options["itl_goal_s"] = options.pop("itl_goal")
    if options["seed"] is None:
        options["seed"] = secrets.randbits(32)
    try:
        return read_settings({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        problem = error.errors()[0]
        option = f"--{str(problem['loc'][-1]).replace('_', '-').removesuffix('-s')}"
        raise SpecError(problem["msg"], where=option, cure="see leadline bench --help") from error


def _pattern(settings: LoadSettings) -> str:
    if settings.trace:
        return f"{settings.requests} requests of {settings.trace}"
    if settings.concurrency:
        return f"{settings.requests} requests by {settings.concurrency} users"
    return f"{settings.requests} requests, {settings.rate:g} a second ({settings.arrivals})"
