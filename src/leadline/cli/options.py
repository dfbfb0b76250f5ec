"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

from fractions import Fraction
from math import inf, nan
from pathlib import Path

import click

from leadline.errors import SpecError
from leadline.units import parse_tokens

runs_option = click.option(
    "--runs",
    "runs_root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder that holds the run directories.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Data on stdout, as JSON.")
fresh_option = click.option("--fresh", is_flag=True, help="Start anew; do not resume a killed run.")


budget_option = click.option(
    "--budget",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the run may take: time=2h, device_hours=64, usd=40, usd_per_device_hour=4.5, "
    "usd_per_hour=36. It stops before that is exceeded, and resumes with more.",
)


def read_number(option: str, text: str) -> float:
    """A finite number above 0 given to ``option``."""
    try:
        number = float(text)
    except ValueError:
        number = nan
    if 0 < number < inf:
        return number
    raise SpecError(f"{text!r} is not a number above 0", where=option, cure="for example 4.5")


def check_number(_: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """A callback for options that take a number above 0."""
    return None if text is None else read_number(parameter.opts[0], text)


# Of every verb that talks to a server somebody else runs.
prompt_as_option = click.option(
    "--prompt-as",
    default="ids",
    show_default=True,
    type=click.Choice(["ids", "text", "chat"]),
    help="Token ids, text, or a chat message.",
)
api_option = click.option(
    "--api",
    default="openai",
    show_default=True,
    type=click.Choice(["openai", "native"]),
    help="OpenAI's routes, or the engine's own (SGLang's /generate, llama.cpp's /completion).",
)
tokenizer_option = click.option(
    "--tokenizer", help="tokenizer.json or its folder. Default: ask the server."
)
engine_option = click.option(
    "--engine", help="vllm, sglang, llamacpp or openai. Default: recognise it."
)
api_key_env_option = click.option(
    "--api-key-env", help="Variable with the API key. Default: LEADLINE_API_KEY."
)


def read_tokens(option: str, text: str) -> int:
    """A token count given to ``option``; ``SpecError`` with the accepted forms."""
    try:
        return parse_tokens(text)
    except ValueError as error:
        raise SpecError(str(error), where=option, cure="write 8192, 10k or 2M") from None


def read_percent(option: str, text: str) -> Fraction:
    """A share from 0% to 100% given to ``option``, exact."""
    try:
        share = Fraction(text.removesuffix("%")) / 100
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not (text.endswith("%") and 0 <= share <= 1):
        raise SpecError(f"{text!r} is not a share", where=option, cure="write 0% to 100%")
    return share


def read_pairs(option: str, pairs: tuple[str, ...]) -> dict[str, str]:
    """``("a=1", "b=2")`` as a mapping; ``SpecError`` for one without ``=``."""
    read = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise SpecError(
                f"{pair!r} is not NAME=VALUE", where=option, cure=f"{option} NAME=VALUE"
            )
        read[name] = value
    return read


def find_run(name: str, runs_root: Path) -> Path:
    """A run by directory, by id, or ``last``."""
    if (Path(name) / "run.json").is_file():
        return Path(name)
    found = sorted(runs_root.glob("*/*/run.json"), key=lambda path: path.parent.name)
    for path in reversed(found):
        if name in ("last", path.parent.name):
            return path.parent
    raise SpecError(
        f"no run {name!r}", where=f"{runs_root}/", cure="`leadline runs` lists them; or give a path"
    )
