"""Images of a Docker engine: there, or pulled with progress, or a clear error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from leadline.deploy.refusals import refuse
from leadline.deploy.target import OnPhase
from leadline.launch import Pull
from leadline.units import show_bytes

if TYPE_CHECKING:
    from docker import DockerClient


def require_image(
    client: DockerClient, name: str, on_phase: OnPhase, pull: Pull = "missing"
) -> str:
    """The image's digest, or its id where it was built here; pulls what is missing.

    Raises ``StartError`` for an image that cannot be had.
    """
    from docker.errors import APIError, ImageNotFound

    try:
        if pull != "always":
            return identify(client.images.get(name))
    except ImageNotFound as error:
        if pull == "never":
            raise refuse(
                "the image is not there, and pull is never",
                str(error.explanation or error),
                where=name,
                cure="docker load it, or set target.pull: missing",
            ) from error
    on_phase("pulling the image")
    try:
        for phase in _pull(client, name):
            on_phase(phase)
        return identify(client.images.get(name))
    except APIError as error:
        raise refuse(
            f"the image cannot be pulled: {error.explanation or error}",
            f"the image {name} cannot be pulled: {error.explanation or error}",
            where=name,
            cure="check its name and tag, log in to its registry, or load it with `docker load`",
        ) from error


def identify(image: Any) -> str:
    digests = image.attrs.get("RepoDigests") or [image.id]
    return str(digests[0])


def _pull(client: DockerClient, name: str) -> Iterator[str]:
    """Shares of the bytes known so far; layers are announced as they come."""
    from docker.errors import APIError

    repository, tag = _split(name)
    layers: dict[str, tuple[int, int]] = {}
    for event in client.api.pull(repository, tag=tag, stream=True, decode=True):
        if problem := event.get("error"):
            raise APIError(problem, explanation=problem)
        detail = event.get("progressDetail") or {}
        if "total" in detail and event.get("status") == "Downloading":
            layers[event["id"]] = (detail.get("current", 0), detail["total"])
            done, total = (sum(column) for column in zip(*layers.values(), strict=True))
            yield f"pulling the image: {done / total:.0%} of {show_bytes(total)}"


def _split(name: str) -> tuple[str, str | None]:
    """Repository and tag; a digest stays with the repository."""
    if "@" in name:
        return name, None
    head, colon, tail = name.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (name, "latest")
