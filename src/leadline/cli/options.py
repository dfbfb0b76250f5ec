"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

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


def read_tokens(option: str, text: str) -> int:
    """A token count given to ``option``; ``SpecError`` with the accepted forms."""
    try:
        return parse_tokens(text)
    except ValueError as error:
        raise SpecError(str(error), where=option, cure="write 8192, 10k or 2M") from None


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
