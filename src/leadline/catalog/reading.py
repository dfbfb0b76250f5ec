"""Read the data files that lie beside this module."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from leadline.errors import PlanError

_HERE = resources.files("leadline.catalog")


@cache
def read_table(name: str) -> Mapping[str, Any]:
    """One TOML file of the catalog, without its suffix: ``families``, ``hardware``."""
    return tomllib.loads((_HERE / f"{name}.toml").read_text("utf-8"))


@cache
def read_record(name: str) -> Mapping[str, Any]:
    """One file of recorded measurements, without its suffix: ``startup``."""
    loaded: Mapping[str, Any] = json.loads((_HERE / f"{name}.json").read_text("utf-8"))
    return loaded


@cache
def model_names() -> tuple[str, ...]:
    """Hub ids of the models whose ``config.json`` the catalog holds."""
    return tuple(sorted(_files()))


def read_config(name: str) -> Mapping[str, Any]:
    """The ``config.json`` facts of one model, found by hub id or by the id's last part."""
    matches = _matches(name)
    if not matches:
        raise PlanError(
            f"no model {name!r} in the catalog",
            where="model",
            cure="name a folder or file with its config.json, or one of: "
            + ", ".join(model_names()),
        )
    loaded: Mapping[str, Any] = json.loads(_files()[matches[0]])
    return loaded


def is_in_catalog(name: str) -> bool:
    return bool(_matches(name))


def _matches(name: str) -> list[str]:
    folded = name.lower()
    return [key for key in _files() if folded in (key.lower(), key.split("/")[-1].lower())]


@cache
def _files() -> Mapping[str, str]:
    folder = _HERE / "models"
    return {
        path.name.removesuffix(".json").replace("--", "/", 1): path.read_text("utf-8")
        for path in folder.iterdir()
        if path.name.endswith(".json")
    }
