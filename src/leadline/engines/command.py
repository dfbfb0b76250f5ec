"""Engine settings as command-line options, for engines whose options are their settings' names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from leadline.errors import SpecError

# Anybody on the machine can read a command line.
_SECRETS = {"api_key": "VLLM_API_KEY", "hf_token": "HF_TOKEN"}


def write_options(
    settings: Mapping[str, Any], ours: Mapping[str, str], *, negate: bool
) -> Iterator[str]:
    """``--name value`` for each setting; booleans as switches, mappings and lists as JSON.

    ``ours`` are options that Leadline sets itself, with what to write instead. ``negate``: the
    engine knows ``--no-name``. Raises ``SpecError`` for those and for secrets.
    """
    for name, value in settings.items():
        key = name.lstrip("-").replace("-", "_")
        _refuse(key, ours)
        flag = f"--{key.replace('_', '-')}"
        if value is True:
            yield flag
        elif value is False:
            yield from (f"--no-{flag[2:]}",) if negate else ()
        else:
            yield flag
            yield orjson.dumps(value).decode() if isinstance(value, dict | list) else str(value)


def _refuse(key: str, ours: Mapping[str, str]) -> None:
    if key in _SECRETS:
        passed_on = f"export {_SECRETS[key]} before running; it is passed on, and written nowhere"
        raise SpecError(
            "a secret must not stand on a command line",
            where=f"settings.{key}",
            cure=ours.get(key, passed_on),
        )
    if key in ours:
        raise SpecError("Leadline sets this itself", where=f"settings.{key}", cure=ours[key])
