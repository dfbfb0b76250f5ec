"""The verbs that run campaigns and show what came of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Coroutine, Iterable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leadline.cli.options import (
    api_key_env_option,
    engine_option,
    find_run,
    fresh_option,
    json_option,
    prompt_as_option,
    read_tokens,
    runs_option,
    tokenizer_option,
)
from leadline.cli.terminal import console, echo_json
from leadline.errors import SpecError

if TYPE_CHECKING:
    from leadline.spec import Campaign

_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")


@click.command()
@runs_option
@fresh_option
@json_option
@click.option("--show", is_flag=True, help="Print the campaign file and stop.")
def quickstart(runs_root: Path, fresh: bool, as_json: bool, show: bool) -> int:
    """Qualify a small real model on a small real engine, on this machine, in minutes."""
    from leadline.spec import parse_campaign

    text = (files("leadline") / "examples" / "quickstart.yaml").read_text(encoding="utf-8")
    if show:
        click.echo(text, nl=False)
        return 0
    campaign = parse_campaign(text, source="quickstart.yaml")
    return _run(campaign, text, runs_root, fresh=fresh, as_json=as_json)


@click.command()
@click.argument("campaign_file", metavar="CAMPAIGN.yaml", type=click.Path(path_type=Path))
@runs_option
@fresh_option
@click.option("--try-infeasible", is_flag=True, help="Start even what the plan rules out.")
@json_option
def run(
    campaign_file: Path, runs_root: Path, fresh: bool, try_infeasible: bool, as_json: bool
) -> int:
    """Run a campaign: every deployment, every workload, every failure a result."""
    from leadline.spec import read_campaign

    campaign = read_campaign(campaign_file)
    text = campaign_file.read_text(encoding="utf-8")
    return _run(
        campaign, text, runs_root, fresh=fresh, as_json=as_json, try_infeasible=try_infeasible
    )


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
    await_work(_require_server(campaign))
    text = campaign.model_dump_json(indent=2, exclude_unset=True)
    return _run(campaign, text, runs_root, fresh=True, as_json=as_json)


@click.command()
@click.argument("run_name", metavar="RUN")
@runs_option
@json_option
def report(run_name: str, runs_root: Path, as_json: bool) -> int:
    """Render a run again from its journal alone. RUN is a directory, an id, or 'last'."""
    from leadline.cli.bench import is_load, report_load

    path = find_run(run_name, runs_root)
    return (report_load if is_load(path) else _report)(path, as_json=as_json)


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


# --- what the verbs share -------------------------------------------------------------------


def _run(
    campaign: Campaign,
    text: str,
    runs_root: Path,
    *,
    fresh: bool,
    as_json: bool,
    try_infeasible: bool = False,
) -> int:
    from leadline.campaign.run import run_campaign
    from leadline.campaign.work import RunOptions
    from leadline.journal import Redactor
    from leadline.report.progress import watch_on

    options = RunOptions(runs_root, fresh=fresh, try_infeasible=try_infeasible)
    watcher = watch_on(console(stderr=True), plain=as_json)
    redact = Redactor(_secrets(campaign))
    try:
        path = await_work(run_campaign(campaign, text, options, watcher, redact))
    finally:
        watcher.close()
    return _report(path, as_json=as_json)


def _report(path: Path, *, as_json: bool) -> int:
    from leadline.journal import Run
    from leadline.report.document import report_document
    from leadline.report.tables import print_verdict
    from leadline.report.write import write_report
    from leadline.verdict import judge_run

    verdict = judge_run(Run(path))
    written = write_report(Run(path), verdict)
    if as_json:
        echo_json(report_document(Run(path), verdict))
    else:
        print_verdict(console(), verdict)
        click.echo("\n" + "\n".join(f"  {file}" for file in written))
    return verdict.exit_code


T = TypeVar("T")


def await_work(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; SIGTERM ends the work as safely as Ctrl-C does."""
    import asyncio

    import uvloop

    async def until_signal() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(until_signal())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _prove_campaign(**options: Any) -> Campaign:
    from pydantic import ValidationError

    from leadline.spec import Campaign

    target = {
        "kind": "endpoint",
        "url": options["url"],
        "api_key_env": options["api_key_env"],
        "tokenizer": options["tokenizer"],
    }
    window = options["max_model_len"]
    deployment = {
        "engine": options["engine"],
        "target": {key: value for key, value in target.items() if value is not None},
        "settings": {"max_model_len": read_tokens("--max-model-len", window)} if window else {},
    }
    workload = (
        "input_tokens", "output_tokens", "repeats", "corpus", "needles", "prompt_as", "cold",
        "limit_probes",
    )  # fmt: skip
    try:
        return Campaign.model_validate(
            {
                "name": "prove",
                "model": options["model"],
                "seed": options["seed"],
                "deployments": {"server": deployment},
                "workload": {name: options[name] for name in workload},
            }
        )
    except ValidationError as error:
        raise SpecError(_option_problems(error), cure="see leadline prove --help") from error


def _option_problems(error: Any) -> str:
    lines = []
    for problem in error.errors():
        option = f"--{str(problem['loc'][-1]).replace('_', '-')}"
        lines.append(f"{option}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


async def _require_server(campaign: Campaign) -> None:
    """Reach the server before anything is written, so that a wrong address leaves no trace."""
    from leadline.campaign.serving import require_endpoint
    from leadline.deploy.endpoint import reach
    from leadline.load.server import Server, open_session
    from leadline.prompts.corpus import load_corpus
    from leadline.spec import EndpointTarget

    deployment = campaign.deployment("server")
    assert isinstance(deployment.target, EndpointTarget)  # noqa: S101
    require_endpoint(deployment, deployment.target)
    load_corpus(campaign.workload.corpus)
    async with open_session() as session:
        await Server(session, reach(deployment.target, deployment.model or "")).require_model()


def _secrets(campaign: Campaign) -> tuple[str, ...]:
    """Values that must not reach any file: keys from the environment and from deployments."""
    deployments = [campaign.deployment(key) for key in campaign.deployments]
    named = {n: value for item in deployments for n, value in item.env.items() if _is_secret(n)}
    variables = [getattr(item.target, "api_key_env", None) for item in deployments]
    return (*known_secrets(variables), *_long_enough(named.values()))


def known_secrets(variables: Iterable[str | None]) -> tuple[str, ...]:
    """Values of those variables, and of all that are named like a secret."""
    named = {name: value for name, value in os.environ.items() if _is_secret(name)}
    named |= {name: os.environ[name] for name in variables if name and name in os.environ}
    return _long_enough(named.values())


def _long_enough(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(value for value in values if len(value) >= 6)  # noqa: PLR2004


def _is_secret(name: str) -> bool:
    return name.upper().rsplit("_", 1)[-1] in _SECRET_NAMES
