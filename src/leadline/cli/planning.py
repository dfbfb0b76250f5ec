"""``leadline plan``: will it fit, how long, how many at once, which flag binds?"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from leadline.cli.options import (
    check_number,
    find_run,
    json_option,
    read_number,
    read_pairs,
    read_tokens,
    runs_option,
)
from leadline.cli.terminal import console, echo_json
from leadline.errors import SpecError

if TYPE_CHECKING:
    from leadline.plan.campaign_plans import CellPlan, Probes

_SHOWN_CANDIDATES = 12
_SHOWN_REASONS = 6
_ALWAYS = {"subject", "as_json", "runs_root"}
_DEPLOYMENT = {"hardware", "engine", "sets", "envs"}


@click.command()
@click.argument("subject", metavar="MODEL|CAMPAIGN.yaml")
@click.option("--hardware", help="8xH200, trn2.48xlarge, 2x8xH100; several with commas: a table.")
@click.option("--engine", help="Engine and version, for example vllm==0.12.0.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="An engine setting.")
@click.option("--env", "envs", multiple=True, metavar="NAME=VALUE", help="An environment variable.")
@click.option("--max-model-len", help="The context window, for example 8M.")
@click.option("--input-tokens", help="Prompt length. Default: the longest that is possible.")
@click.option("--output-tokens", default="200", show_default=True, help="Tokens to generate.")
@click.option(
    "--cached-tokens",
    type=click.IntRange(min=0),
    default=0,
    help="Prompt tokens that a prefix cache holds.",
)
@click.option("--available-kv-gib", callback=check_number, help="From the engine's log, a device.")
@click.option("--weights-gib", callback=check_number, help="From the engine's log, a device.")
@click.option("--free-gib", callback=check_number, help="Free on the fullest device before it.")
@click.option("--calibrate", metavar="RUN[:DEPLOYMENT]", help="Take prefill times from a run.")
@click.option("--probe", "probes", multiple=True, metavar="TOKENS=S", help="A cold prefill time.")
@click.option(
    "--measured-s", callback=check_number, help="A reported prefill time: can it be a cold one?"
)
@click.option("--price", callback=check_number, help="Price of a device hour.")
@click.option("--search", is_flag=True, help="Try the engine's settings and rank those that fit.")
@click.option("--smallest", is_flag=True, help="Fewest devices, lowest utilization that fit.")
@click.option("--html", "html", type=click.Path(path_type=Path), help="Write a page with pictures.")
@runs_option
@json_option
def plan(subject: str, runs_root: Path, as_json: bool, **options: Any) -> int:
    """Plan a deployment, or every cell of a campaign, before any device hour is spent.

    Exit code 0 if all of it fits, 1 if not. Predictions say that they are predictions.
    """
    probes = _read_probes(options.pop("calibrate"), options.pop("probes"), runs_root)
    if subject.endswith((".yaml", ".yml")):
        _refuse_unread("a campaign", {"calibrate", "probes", "price"})
        return _plan_campaign(Path(subject), probes, options["price"], as_json=as_json)
    hardware, engine = options["hardware"], options["engine"]
    if not hardware or not engine:
        raise SpecError(
            "a plan needs --hardware and --engine",
            where="leadline plan",
            cure="for example --hardware 8xH200 --engine vllm==0.12.0",
        )
    if options["search"]:
        _refuse_unread("a search", _DEPLOYMENT | {"search", "input_tokens", "output_tokens"})
        return _search(subject, options, as_json=as_json)
    if options["smallest"]:
        _refuse_unread("the smallest deployment", _DEPLOYMENT | {"smallest", "max_model_len"})
        return _smallest(subject, options, as_json=as_json)
    if "," in hardware:
        _refuse_unread("several devices", _DEPLOYMENT | {"max_model_len", "output_tokens"})
        return _by_device(subject, options, as_json=as_json)
    return _plan_one(subject, options, probes, as_json=as_json)


def _refuse_unread(mode: str, read: set[str]) -> None:
    """An option that this mode would not look at must not seem to have been heeded."""
    context = click.get_current_context()
    given = [
        parameter
        for parameter in context.command.params
        if context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    ]
    if unread := [p.opts[0] for p in given if p.name not in read | _ALWAYS]:
        raise SpecError(
            f"a plan of {mode} does not look at {', '.join(unread)}",
            where="leadline plan",
            cure="leave it out, or plan one deployment",
        )


def _plan_one(model: str, options: dict[str, Any], probes: Probes, *, as_json: bool) -> int:
    from leadline.plan.deployment import plan_deployment
    from leadline.report.plan_table import render_plan

    found = plan_deployment(
        model,
        options["hardware"],
        options["engine"],
        **_settings(options),
        input_tokens=_length(options),
        output_tokens=read_tokens("--output-tokens", options["output_tokens"]),
        cached_tokens=options["cached_tokens"],
        available_kv_gib=options["available_kv_gib"],
        weights_gib=options["weights_gib"],
        free_gib=options["free_gib"],
        probes=probes,
        measured_prefill_s=options["measured_s"],
    )
    if as_json:
        echo_json(found.model_dump(mode="json", by_alias=True))
    else:
        console().print(render_plan(found))
        if options["price"] and found.time:
            click.echo(f"cost of one request: {found.time.gpu_hours * options['price']:.4g}")
    if options["html"]:
        from leadline.plan.search import trace_concurrency
        from leadline.report.plan_page import write_plan_page

        curve = trace_concurrency(
            model,
            options["hardware"],
            options["engine"],
            **_settings(options),
            output_tokens=read_tokens("--output-tokens", options["output_tokens"]),
            available_kv_gib=options["available_kv_gib"],
            weights_gib=options["weights_gib"],
        )
        write_plan_page(options["html"], found, curve)
        click.echo(f"  {options['html']}", err=True)
    return 0 if found.binding is None else 1


def _by_device(model: str, options: dict[str, Any], *, as_json: bool) -> int:
    from leadline.plan.search import plan_by_device
    from leadline.report.plan_table import render_contexts

    names = [name.strip() for name in options["hardware"].split(",")]
    output_tokens = read_tokens("--output-tokens", options["output_tokens"])
    rows = plan_by_device(
        model, names, options["engine"], **_settings(options), output_tokens=output_tokens
    )
    if as_json:
        echo_json({name: found.model_dump(mode="json", by_alias=True) for name, found in rows})
    else:
        console().print(render_contexts(rows))
    return 0 if any(found.binding is None for _, found in rows) else 1


def _search(model: str, options: dict[str, Any], *, as_json: bool) -> int:
    from leadline.plan.search import search_settings
    from leadline.report.plan_table import render_candidates, render_search_speed

    if not options["input_tokens"]:
        raise SpecError(
            "a search needs --input-tokens", where="--search", cure="the prompt length to serve"
        )
    started = perf_counter()
    ranked, rejected = search_settings(
        model,
        options["hardware"],
        options["engine"],
        input_tokens=read_tokens("--input-tokens", options["input_tokens"]),
        output_tokens=read_tokens("--output-tokens", options["output_tokens"]),
        fixed=read_pairs("--set", options["sets"]),
        env=read_pairs("--env", options["envs"]),
    )
    seconds = perf_counter() - started
    if as_json:
        echo_json(
            {
                "schema": "leadline.search/1",
                "seconds": seconds,
                "ranked": [_candidate(item) for item in ranked],
                "rejected": [_candidate(item) for item in rejected],
            }
        )
    else:
        console().print(render_candidates(ranked, rejected, _SHOWN_CANDIDATES, _SHOWN_REASONS))
        console().print(render_search_speed(len(ranked) + len(rejected), seconds))
    return 0 if ranked else 1


def _candidate(item: Any) -> dict[str, Any]:
    found = item.plan
    return {
        "settings": dict(item.settings),
        "env": dict(item.env),
        "verdict": found.verdict,
        "reason": found.binding.reason if found.binding else None,
        "concurrent_requests": found.limits.concurrent_requests,
        "devices": found.gpus,
        "margin_gib": found.memory.margin_gib,
        "request_s": found.time.request_s if found.time else None,
    }


def _smallest(model: str, options: dict[str, Any], *, as_json: bool) -> int:
    from leadline.plan.search import (
        find_fewest_devices,
        find_lowest_utilization,
        tensor_parallel_flag,
    )

    where = (model, options["hardware"], options["engine"])
    given = _settings(options)
    fewest = find_fewest_devices(*where, **given)
    parallel = {tensor_parallel_flag(options["engine"]): fewest.gpus}
    asked = given | {"settings": parallel | given["settings"]}
    lowest = find_lowest_utilization(*where, **asked)
    answer = {
        "devices": fewest.gpus,
        "verdict": fewest.verdict,
        "lowest_utilization": lowest,
        "settings": asked["settings"],
    }
    if as_json:
        echo_json(answer)
    else:
        click.echo(f"fewest devices: {fewest.gpus} ({fewest.verdict})")
        shown = " ".join(f"{name}={value}" for name, value in asked["settings"].items())
        click.echo(f"lowest utilization with {shown}: {lowest:.2f}")
    return 0


def _plan_campaign(path: Path, probes: Probes, price: float | None, *, as_json: bool) -> int:
    from leadline.campaign.planning import plan_local
    from leadline.plan.campaign_plans import plan_campaign, sum_gpu_hours
    from leadline.report.plan_table import render_campaign
    from leadline.spec import read_campaign

    plans = plan_campaign(read_campaign(path), probes=probes, plan_local=plan_local)
    if as_json:
        hours = sum_gpu_hours(plans)
        echo_json(
            {
                "schema": "leadline.plan/1",
                "cells": {entry.cell.key: _cell(entry) for entry in plans},
                "device_hours": hours,
                "cost": None if price is None else hours * price,
            }
        )
    else:
        console().print(render_campaign(plans, price))
    return 0 if all(entry.is_feasible for entry in plans) else 1


def _cell(entry: CellPlan) -> dict[str, Any]:
    if entry.plan is None:
        return {"verdict": "not_planned", "reason": entry.reason}
    return entry.plan.model_dump(mode="json", by_alias=True)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "settings": read_pairs("--set", options["sets"]),
        "env": read_pairs("--env", options["envs"]),
        "max_model_len": options["max_model_len"],
    }


def _length(options: dict[str, Any]) -> int | None:
    asked = options["input_tokens"]
    return None if asked in (None, "max") else read_tokens("--input-tokens", asked)


def _read_probes(calibrate: str | None, by_hand: tuple[str, ...], runs_root: Path) -> Probes:
    """Of a run and from the command line, together."""
    given = [_read_probe(text) for text in by_hand]
    return given if calibrate is None else [*_read_run(calibrate, runs_root), *given]


def _read_probe(text: str) -> tuple[int, float]:
    tokens, _, seconds = text.partition("=")
    if not seconds:
        raise SpecError(
            f"{text!r} is not TOKENS=S", where="--probe", cure="for example --probe 2850000=334.9"
        )
    return read_tokens("--probe", tokens), read_number("--probe", seconds)


def _read_run(name: str, runs_root: Path) -> Probes:
    from leadline.campaign.planning import read_probes
    from leadline.journal import Run

    place, _, deployment = (name, "", "") if Path(name).exists() else name.partition(":")
    probes = read_probes(Run(find_run(place, runs_root)), deployment)
    if not probes:
        raise SpecError("the run holds no cold answered trial", where=name, cure="another run")
    return probes
