"""Finding the files of data packages without importing their code."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from leadline.errors import SpecError

Kind = Literal["models", "corpora"]


def asset_names(kind: Kind) -> list[str]:
    return list(_assets()[kind])


def asset_facts(kind: Kind, name: str) -> dict[str, str]:
    """Source, licence and format of a catalog entry."""
    facts: dict[str, str] = _assets()[kind][name]
    return facts


def asset_path(kind: Kind, name: str) -> Path:
    """Where the file of a catalog entry lies. ``SpecError`` with the install command if absent."""
    facts = asset_facts(kind, name)
    found = find_spec(facts["package"])
    folders = list(found.submodule_search_locations or ()) if found else []
    for folder in folders:
        path = Path(folder) / facts["path"]
        if path.is_file():
            return path
    raise SpecError(f"{name} is not installed", where="catalog", cure=facts["install"])


@cache
def _assets() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files("leadline.catalog") / "assets.toml").read_text(encoding="utf-8"))
