"""Engine options as they are written: dashes or underscores, short names, JSON in a string."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from leadline.errors import PlanError


def spell_options(
    given: Mapping[str, Any], aliases: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Options under the engine's own long names; ``{...}`` and ``[...]`` strings are parsed."""
    short = aliases or {}
    spelled = {}
    for key, value in given.items():
        name = key.strip().lstrip("-").replace("-", "_")
        spelled[short.get(name, name)] = _parse(name, value)
    return spelled


def is_on(value: object) -> bool:
    """Whether a switch, an environment variable or a bare flag says yes."""
    return str(value).strip().lower() in ("1", "true", "yes", "on")


def _parse(name: str, value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as broken:
        raise PlanError(
            f"{name} is not JSON: {broken}", where="settings", cure="quote it as one string"
        ) from broken
