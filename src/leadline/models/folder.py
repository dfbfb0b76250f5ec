"""Model folders that are there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from leadline.errors import SpecError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` when the block ends well."""
    if out.exists():
        raise SpecError("it is there already", where=str(out), cure="remove it, or name another")
    partial = out.with_name(f".{out.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(out)
    except OSError as error:
        raise SpecError(
            f"cannot be written: {error.strerror}", where=str(out), cure="name another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """``config.json``, and the part of it that says when to stop as ``generation_config.json``."""
    stops = {name: value for name, value in config.items() if name.endswith("_token_id")}
    for name, content in (("config", config), ("generation_config", stops)):
        data = orjson.dumps(content, option=orjson.OPT_INDENT_2)
        (folder / f"{name}.json").write_bytes(data)
