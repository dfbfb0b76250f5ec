"""How a verb runs a campaign: safely ended, reported, and without a secret in any file."""

from __future__ import annotations

import os
import signal
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leadline.cli.options import read_pairs
from leadline.cli.terminal import console, echo_json
from leadline.errors import SpecError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from leadline.campaign.forecast import Forecast
    from leadline.campaign.work import RunOptions
    from leadline.spec import Campaign

_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def run_and_report(campaign: Campaign, text: str, options: RunOptions, *, as_json: bool) -> int:
    from leadline.campaign.forecast import forecast_run

    return report_forecast(forecast_run(campaign, options), text, as_json=as_json)


def report_forecast(forecast: Forecast, text: str, *, as_json: bool) -> int:
    """Run what was forecast, and report what came of it."""
    from leadline.campaign.run import run_campaign
    from leadline.journal import Redactor
    from leadline.report.progress import watch_on

    watcher = watch_on(console(stderr=True), plain=as_json)
    redact = Redactor(campaign_secrets(forecast.campaign))
    try:
        path = await_work(run_campaign(forecast, text, watcher, redact))
    finally:
        watcher.close()
    return report_run(path, as_json=as_json)


def change_budget(campaign: Campaign, pairs: tuple[str, ...]) -> Campaign:
    """The campaign with what ``--budget`` says instead of its file."""
    from pydantic import ValidationError

    from leadline.spec import Budget
    from leadline.spec.frozen import nearest

    given = campaign.budget.model_dump(exclude_unset=True) | read_pairs("--budget", pairs)
    for name in read_pairs("--budget", pairs):
        if name not in Budget.model_fields or name == "ask_above":
            raise SpecError(
                f"{name} is not in a budget{nearest(name, Budget.model_fields)}",
                where="--budget",
                cure="for example --budget time=2h",
            )
    try:
        return campaign.model_copy(update={"budget": Budget.model_validate(given)})
    except ValidationError as error:
        text = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SpecError(text, where="--budget", cure="for example --budget time=2h") from None


def run_on_server(campaign: Campaign, runs_root: Path, *, as_json: bool) -> int:
    """Always a run of its own, and none for a server that is not there."""
    await_work(_require_server(campaign))
    from leadline.campaign.work import RunOptions

    text = campaign.model_dump_json(indent=2, exclude_unset=True)
    options = RunOptions(runs_root, fresh=True)
    return run_and_report(campaign, text, options, as_json=as_json)


def report_run(path: Path, *, as_json: bool) -> int:
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
        click.echo("\n" + "\n".join(_list_files(written)))
    return verdict.exit_code


_SHOWN_FILES = 9


def _list_files(written: list[Path]) -> Iterator[str]:
    yield from (f"  {file}" for file in written[:_SHOWN_FILES])
    if len(written) > _SHOWN_FILES:
        yield f"  and {len(written) - _SHOWN_FILES} more pages of loads beside them"


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


def campaign_secrets(campaign: Campaign) -> tuple[str, ...]:
    """Values that must not reach any file: keys from the environment and from deployments."""
    deployments = [campaign.deployment(key) for key in campaign.deployments]
    named = {n: value for item in deployments for n, value in item.env.items() if _is_secret(n)}
    variables = [getattr(item.target, "api_key_env", None) for item in deployments]
    kept = [value for item in deployments for value in _file_secrets(item.target)]
    return (*known_secrets(variables), *_long_enough((*named.values(), *kept)))


def _file_secrets(target: Any) -> Iterable[str]:
    from leadline.deploy.env_file import read_env_file

    file = getattr(target, "env_file", None)
    return read_env_file(file).values() if file else ()


def known_secrets(variables: Iterable[str | None]) -> tuple[str, ...]:
    """Values of those variables, and of all that are named like a secret."""
    named = {name: value for name, value in os.environ.items() if _is_secret(name)}
    named |= {name: os.environ[name] for name in variables if name and name in os.environ}
    return _long_enough(named.values())


def _long_enough(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(value for value in values if len(value) >= 6)  # noqa: PLR2004


def _is_secret(name: str) -> bool:
    return name.upper().rsplit("_", 1)[-1] in _SECRET_NAMES


def describe_server(options: dict[str, Any]) -> dict[str, Any]:
    """The deployment that the options of ``prove`` and ``bench`` name."""
    named = {name: options[name] for name in ("url", "api_key_env", "tokenizer")}
    target = {name: value for name, value in named.items() if value is not None}
    return {"engine": options["engine"], "target": {"kind": "endpoint", **target}}


def check_options(verb: str, campaign: dict[str, Any]) -> Campaign:
    """A campaign made of options; ``SpecError`` names those that cannot be meant."""
    from pydantic import ValidationError

    from leadline.spec import Campaign

    try:
        return Campaign.model_validate(campaign)
    except ValidationError as error:
        raise SpecError(_option_problems(error), cure=f"see leadline {verb} --help") from error


# Where an option is not named like its place in the campaign.
_OPTIONS = {
    "users": "concurrency",
    "share": "goal-share",
    "ttft_s": "ttft-goal",
    "itl_s": "itl-goal",
    "e2e_s": "e2e-goal",
    "load": "concurrency",
}


def _option_problems(error: ValidationError) -> str:
    from leadline.spec.reading import path_in_file

    lines = []
    for problem in error.errors():
        path = path_in_file(problem["loc"])
        option = _option([part for part in path if isinstance(part, str)])
        lines.append(f"--{option}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _option(path: list[str]) -> str:
    if "sweep" in path:
        return "sweep"
    lengths = [part for part in path if part in ("input_tokens", "output_tokens")]
    name = (lengths or path or ["options"])[-1]
    return _OPTIONS.get(name, name).replace("_", "-")
