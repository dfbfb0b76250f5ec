"""The embedded engine in containers of the tests' own Docker engine."""

from __future__ import annotations

import os
import site
import sys
from typing import Any

import docker
from tests.containers.daemon import IMAGE, mounts

from leadline.deploy.containers import find_ours

ENGINE = {"engine": "llamacpp", "settings": {"ctx_size": 1024, "threads": 2}}


def containers_of(client: docker.DockerClient, name: str) -> list[Any]:
    return [found for found in find_ours(client) if str(found.name).startswith(name)]


def in_docker(**changes: Any) -> dict[str, Any]:
    """The embedded engine under this very Python, in an image that is mounts alone."""
    packages = os.pathsep.join(site.getsitepackages())
    target = {
        "kind": "docker",
        "image": IMAGE,
        "executable": os.path.realpath(sys.executable),
        "volumes": mounts(),
        **changes,
    }
    return {**ENGINE, "env": {"PYTHONPATH": packages}, "target": target}
