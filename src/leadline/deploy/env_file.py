"""Files of secrets: ``NAME=VALUE`` lines, as ``docker run --env-file`` reads them."""

from __future__ import annotations

import os
from pathlib import Path

from leadline.errors import SpecError
from leadline.launch import Container, Launch

_OTHERS = 0o077


def read_secrets(container: Container) -> dict[str, str]:
    """Those that the container asks for and our environment has, then those of its file."""
    ours = {name: os.environ[name] for name in container.secrets if os.environ.get(name)}
    return ours | (read_env_file(container.env_file) if container.env_file else {})


def key_headers(launch: Launch) -> dict[str, str]:
    """What requests must carry of a server that was given a key."""
    file = launch.container.env_file if launch.container else None
    given = {**os.environ, **launch.env, **(read_env_file(file) if file else {})}
    key = given.get(launch.api_key_env or "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def read_env_file(path: str) -> dict[str, str]:
    """The variables; a bare ``NAME`` takes its value from our environment.

    Raises ``SpecError`` for a file that is not there, or that others may read.
    """
    file = Path(path).expanduser()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        mode = file.stat().st_mode
    except OSError as error:
        raise SpecError(
            f"cannot be read: {error.strerror}", where=path, cure="correct target.env_file"
        ) from error
    if mode & _OTHERS:
        raise SpecError(
            "others on this machine may read these secrets", where=path, cure=f"chmod 600 {path}"
        )
    found: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.lstrip().partition("=")
        if name and not name.startswith("#"):
            found[name.strip()] = value if equals else os.environ.get(name.strip(), "")
    return {name: value for name, value in found.items() if value}
