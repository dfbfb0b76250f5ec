"""``leadline bench``: what a running server does under load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.options import (
    api_key_env_option,
    api_option,
    engine_option,
    json_option,
    prompt_as_option,
    read_number,
    read_percent,
    read_tokens,
    runs_option,
    tokenizer_option,
)
from leadline.cli.running import check_options, describe_server, run_on_server
from leadline.errors import SpecError

if TYPE_CHECKING:
    from leadline.spec import Campaign

_LENGTHS = "1000, 10k,100k (in turn) or 10k..2M (drawn evenly)"


@click.command()
@click.option("--url", required=True, help="Address of an OpenAI-compatible server.")
@click.option("--model", required=True, help="Model name that the server serves.")
@click.option(
    "--input-tokens", default="1000", show_default=True, help=f"Exact prompt lengths: {_LENGTHS}."
)
@click.option(
    "--output-tokens", default="200", show_default=True, help="Tokens to generate, as above."
)
@click.option("--requests", type=int, help="Requests in all. Default: 100, or the whole trace.")
@click.option(
    "--concurrency", "users", type=int, help="Users who wait for their answer: a closed loop."
)
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
@click.option(
    "--trace", help="Replay JSON lines: timestamp (ms), input_length, output_length, hash_ids."
)
@click.option(
    "--trace-prefixes/--no-trace-prefixes",
    default=True,
    show_default=True,
    help="Equal hash_ids get equal tokens, else no two prompts share any.",
)
@click.option(
    "--trace-block-tokens",
    default=512,
    show_default=True,
    help="Tokens that one of the hash_ids stands for.",
)
@click.option(
    "--sweep",
    help="Several loads, to find what it can take: users=1..64, users=1,8,50, rate=0.5..16.",
)
@click.option("--warmup", type=int, help="Requests before that do not count. Default: 1 per user.")
@click.option("--ttft-goal", type=float, help="Seconds to the first token, for goodput.")
@click.option("--itl-goal", type=float, help="Seconds between tokens, for goodput.")
@click.option("--e2e-goal", type=float, help="Seconds to the last token, for goodput.")
@click.option(
    "--goal-share",
    default=0.99,
    show_default=True,
    help="Of all requests, to be within all goals; a sweep's loads are judged by it.",
)
@click.option(
    "--shared-prefix", help="First tokens that prompts share, for a warm cache: 4k, or 50%."
)
@click.option("--hit-rate", help="Instead: share as much as gives this cache hit rate, e.g. 60%.")
@click.option("--groups", default=1, show_default=True, help="Different shared prefixes.")
@click.option(
    "--turns", default=1, show_default=True, help="Of conversations, each sending all before it."
)
@click.option(
    "--block-tokens", type=int, help="Of the server's prefix cache. Default: as the engine says."
)
@click.option(
    "--processes", default=1, show_default=True, help="Client processes that share the load."
)
@click.option(
    "--self-check", is_flag=True, help="Measure this client's own error first, at that load."
)
@click.option("--first-token-s", default=600.0, show_default=True, help="Patience, in seconds.")
@click.option("--between-tokens-s", default=120.0, show_default=True, help="Patience, in seconds.")
@prompt_as_option
@api_option
@click.option(
    "--corpus",
    multiple=True,
    default=("kjv",),
    show_default=True,
    help="UTF-8 text file or catalog name; several are joined in order.",
)
@tokenizer_option
@engine_option
@api_key_env_option
@click.option("--seed", type=int, help="Repeat these very prompts and times. Default: fresh ones.")
@runs_option
@json_option
def bench(runs_root: Path, as_json: bool, **options: Any) -> int:
    """Put a load on a running server and measure it: TTFT, ITL, TPOT, throughput, goodput.

    Exit code 0 if every request was answered as asked (of a sweep: if any load was within the
    goals); 1 if not, or if this client was itself the bottleneck (inconclusive); 2 if none was
    answered.
    """
    return run_on_server(_campaign(options), runs_root, as_json=as_json)


def _campaign(options: dict[str, Any]) -> Campaign:
    """One server, one cell."""
    if sum(options[name] is not None for name in ("users", "rate", "trace", "sweep")) != 1:
        raise SpecError(
            "a load is driven by one of --concurrency, --rate, --trace and --sweep",
            where="leadline bench",
            cure="--concurrency 8 for users who wait for their answers, --rate 2 for those who "
            "do not",
        )
    return check_options(
        "bench",
        {
            "name": "bench",
            "model": options["model"],
            "seed": options["seed"],
            "deployments": {"server": describe_server(options)},
            "workload": _workload(options),
            "timeouts": {name: options[name] for name in ("first_token_s", "between_tokens_s")},
        },
    )


def _workload(options: dict[str, Any]) -> dict[str, Any]:
    lengths = {
        name: _read_lengths(f"--{name.replace('_', '-')}", options[name])
        for name in ("input_tokens", "output_tokens")
        if options["trace"] is None
    }
    goals = {f"{name}_s": options[f"{name}_goal"] for name in ("ttft", "itl", "e2e")}
    given = (
        "users", "rate", "arrivals", "burst", "last_rate", "trace", "requests", "warmup",
        "processes", "self_check", "trace_prefixes", "trace_block_tokens",
    )  # fmt: skip
    load = {name: options[name] for name in given} | {
        "sweep": _read_sweep(options["sweep"]),
        "goals": {**goals, "share": options["goal_share"]},
    }
    return {
        **lengths,
        "corpus": options["corpus"],
        "prompt_as": options["prompt_as"],
        "api": options["api"],
        "limit_probes": False,
        "shared_prefix": _read_shared(options),
        "turns": options["turns"],
        "cache_block_tokens": options["block_tokens"],
        "load": {name: value for name, value in load.items() if value is not None},
    }


def _read_shared(options: dict[str, Any]) -> dict[str, Any] | None:
    prefix, rate, groups = (options[name] for name in ("shared_prefix", "hit_rate", "groups"))
    if prefix is None and rate is None:
        return None
    found: dict[str, Any] = {"groups": groups}
    if rate is not None:
        found["hit_rate"] = float(read_percent("--hit-rate", rate))
    if prefix is not None and prefix.endswith("%"):
        found["share"] = float(read_percent("--shared-prefix", prefix))
    elif prefix is not None:
        found["tokens"] = read_tokens("--shared-prefix", prefix)
    return found


def _read_lengths(option: str, text: str) -> Any:
    low, dots, high = text.partition("..")
    if dots:
        return {"uniform": [read_tokens(option, low), read_tokens(option, high)]}
    if "," in text:
        return [read_tokens(option, part) for part in text.split(",")]
    return read_tokens(option, text)


def _read_sweep(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    unit, _, levels = text.partition("=")
    if unit not in ("users", "rate") or not levels:
        raise SpecError(
            f"{text!r} is no sweep", where="--sweep", cure="write users=1..64 or rate=1,2,4"
        )
    low, dots, high = levels.partition("..")
    if dots:
        return {unit: {"low": _level(unit, low), "high": _level(unit, high)}}
    return {unit: [_level(unit, part) for part in levels.split(",")]}


def _level(unit: str, text: str) -> float:
    number = read_number("--sweep", text)
    return int(number) if unit == "users" and number.is_integer() else number
