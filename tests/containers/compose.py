"""Compose 2, as users have it: a plugin of the docker command."""

from __future__ import annotations

import shutil
import subprocess

from tests.absent import leave_out


def compose_command() -> list[str]:
    """The words before Compose's own; a test is left out where there is none."""
    command = [shutil.which("docker") or "/bin/false", "compose"]
    if subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
        leave_out("Compose 2 is not installed: make docker")
    return command
