"""Standing services of a Docker engine: the very containers that ``leadline render`` writes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.deploy import containers
from leadline.deploy.docker import DockerTarget, split_lines, word_exit
from leadline.deploy.log import Redact
from leadline.deploy.standing import UP, Check, Standing
from leadline.deploy.target import OnPhase, stop_shielded
from leadline.errors import DeployError
from leadline.launch import Endpoint, Launch
from leadline.render.docker import LABEL, require_container, run_arguments
from leadline.render.service import Service

if TYPE_CHECKING:
    from docker.models.containers import Container

_ENGINE, _MODEL, _SHAPE = f"{LABEL}.engine", f"{LABEL}.model", f"{LABEL}.shape"
_NOWHERE = Path(os.devnull)
"""The engine keeps the log."""


class DockerServices:
    """See ``Services`` for the contract."""

    def __init__(self, redact: Redact = str, _: object = None) -> None:
        self._redact = redact

    def target(self, service: Service, owner: str) -> DockerTarget:
        labels = {_ENGINE: service.engine, _MODEL: service.served_model}
        return DockerTarget(self._redact, owner, labels)

    async def remove_owned(self, owner: str) -> list[str]:
        return await asyncio.to_thread(containers.remove_owned, owner)

    @asynccontextmanager
    async def reach(self, standing: Standing) -> AsyncIterator[str | None]:
        yield standing.url

    def services(self) -> list[Standing]:
        with closing(containers.connect()) as client:
            return [_describe(found) for found in containers.find_ours(client)]

    async def up(self, service: Service, port: int, on_phase: OnPhase, check: Check) -> Endpoint:
        launch, timeout_s = service.launch(port), service.start_limit_s
        labels = {
            _ENGINE: service.engine,
            _MODEL: service.served_model,
            _SHAPE: _shape(launch),
        }
        target = DockerTarget(self._redact, UP, labels)
        if await asyncio.to_thread(self._stands, launch):
            on_phase("it is up already")
            return await _adopt(target, launch, timeout_s, on_phase, check)
        try:
            await asyncio.to_thread(_label_volumes, launch)
            endpoint = await target.start(launch, _NOWHERE, timeout_s, on_phase)
            await check(endpoint)
            await target.keep()
        finally:
            await stop_shielded(target)  # after ``keep`` there is nothing to stop
        return endpoint

    def log(
        self, name: str, *, follow: bool = False, lines: int = 0, previous: bool = False
    ) -> Iterator[bytes]:
        if previous:
            raise DeployError(
                "Docker starts the same container again and keeps one log",
                where=name,
                cure="leadline logs shows all of it, earlier starts too",
            )
        with closing(containers.connect()) as client:
            container = _require(client, name)
            yield from split_lines(container.logs(stream=True, follow=follow, tail=lines or "all"))

    def down(self, name: str, *, volumes: bool) -> list[str]:
        with closing(containers.connect()) as client:
            container = _require(client, name)
            kept = [
                mount["Name"] for mount in container.attrs["Mounts"] if mount["Type"] == "volume"
            ]
            containers.remove(container)
            told = [f"{name}: gone"]
            if not volumes:
                return told + [f"volume {volume}: kept" for volume in kept]
            removed, left = containers.remove_volumes(client, kept)
            told += [f"volume {volume}: removed" for volume in removed]
            return told + [f"volume {volume}: left, in use or not ours" for volume in left]

    def _stands(self, launch: Launch) -> bool:
        """Whether this very service runs. ``DeployError`` if it runs with other settings."""
        name = require_container(launch).name
        with closing(containers.connect()) as client:
            found = [each for each in containers.find_ours(client, UP) if each.name == name]
            if not found or not _describe(found[0]).is_alive:
                return False  # half-started or ended: it makes way
            if found[0].labels.get(_SHAPE) != _shape(launch):
                raise DeployError(
                    "it is up with other settings, another image or another port",
                    where=name,
                    cure=f"leadline down {name}, then leadline up again",
                )
            return True


async def _adopt(
    target: DockerTarget, launch: Launch, timeout_s: float, on_phase: OnPhase, check: Check
) -> Endpoint:
    """One that was started before stays, whatever we find."""
    try:
        endpoint = await target.adopt(launch, _NOWHERE, timeout_s, on_phase)
        await check(endpoint)
        await target.keep()
    finally:
        await target.release()
    return endpoint


def _label_volumes(launch: Launch) -> None:
    with closing(containers.connect()) as client:
        containers.label_volumes(client, launch)


def _require(client: Any, name: str) -> Container:
    ours = {found.name: found for found in containers.find_ours(client)}
    if name not in ours:
        raise DeployError(
            f"no service {name!r} of Leadline is there",
            where="docker",
            cure=f"known: {', '.join(sorted(ours)) or 'none'}",
        )
    found: Container = ours[name]
    return found


def _describe(container: Container) -> Standing:
    attrs, labels = container.attrs, container.labels
    state = attrs["State"]
    bound = [
        binding["HostPort"]
        for bindings in (attrs["HostConfig"].get("PortBindings") or {}).values()
        for binding in bindings or ()
    ]
    return Standing(
        name=str(container.name),
        owner=labels.get(containers.OWNER, ""),
        state=state["Status"],
        url=f"http://127.0.0.1:{bound[0]}" if bound else None,
        image=attrs["Config"]["Image"],
        engine=labels.get(_ENGINE, ""),
        model=labels.get(_MODEL, ""),
        restarts=attrs.get("RestartCount", 0),
        exit_status=word_exit(state),
        out_of_memory=bool(state.get("OOMKilled")),
        started=state.get("StartedAt", ""),
        pid=state.get("Pid") or None,
        waits=f"it ends with exit code {state['ExitCode']} and is started again"
        if state["Status"] == "restarting"
        else "",
    )


def _shape(launch: Launch) -> str:
    """A digest of everything but the secrets."""
    return hashlib.sha256(repr(run_arguments(launch, "")).encode()).hexdigest()[:16]
