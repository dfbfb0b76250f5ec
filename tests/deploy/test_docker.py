"""What only a Docker engine can refuse or do, on a real one."""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest
from tests.absent import leave_out
from tests.containers.daemon import IMAGE, SOCKET
from tests.containers.registry import open_registry
from tests.deploy.places import DockerPlace, open_place

from leadline.deploy import containers
from leadline.deploy.containers import connect, container_options, find_ours, remove_ours
from leadline.deploy.docker import DockerTarget
from leadline.deploy.docker_services import DockerServices
from leadline.deploy.env_file import read_env_file
from leadline.deploy.images import require_image
from leadline.deploy.process import free_port
from leadline.deploy.target import StartError, deployed
from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.errors import DeployError, SpecError
from leadline.launch import Devices, Endpoint, Volume
from leadline.render.docker import LABEL, run_arguments

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def place() -> Iterator[DockerPlace]:
    try:
        yield open_place("docker")
    except LookupError as missing:
        leave_out(missing)


@pytest.fixture
def client(place: DockerPlace) -> Iterator[docker.DockerClient]:
    opened = connect()
    yield opened
    for container in find_ours(opened):
        if container.name.startswith("leadline-test-"):
            container.remove(force=True)
    opened.close()


def refused(place: DockerPlace, log: Path, script: str = "serve()", **changes: Any) -> DeployError:
    target = place.target()

    async def run() -> None:
        try:
            await target.start(place.launch(script, **changes), log, 60, lambda _: None)
        finally:
            await target.stop()

    with pytest.raises(DeployError) as caught:
        asyncio.run(run())
    return caught.value


def test_no_engine_is_said_with_its_cure(tmp_path: Path) -> None:
    """In a process of its own, for the SDK leaves its socket open when nobody answers."""
    program = "from leadline.deploy.containers import connect; connect()"
    env = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    tried = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )
    assert "no Docker engine answers" in tried.stderr
    assert "DOCKER_HOST" in tried.stderr


def test_a_missing_image_is_said_with_its_cure(place: DockerPlace, tmp_path: Path) -> None:
    error = refused(place, tmp_path / "log", container={"image": "leadline/no-such-image:1"})
    assert "leadline/no-such-image:1: the image cannot be pulled" in str(error)


def test_a_program_that_is_not_in_the_image(place: DockerPlace, tmp_path: Path) -> None:
    error = refused(place, tmp_path / "log", container={"entrypoint": ("/no/such/program",)})
    assert isinstance(error, StartError)
    assert error.exit_status == "exit code 127"
    assert "/no/such/program failed: No such file" in error.log_tail[-1]


def test_a_device_that_is_not_there(place: DockerPlace, tmp_path: Path) -> None:
    error = refused(place, tmp_path / "log", container={"devices": Devices("neuron", 1)})
    assert "a device of the container is not on this machine" in error.what


def test_a_port_that_is_taken(place: DockerPlace, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        error = refused(place, tmp_path / "log", port=holder.getsockname()[1])
    assert isinstance(error, StartError)
    assert error.cause == "port_in_use"


def test_a_container_over_its_memory_limit_is_said_to_be_that(
    place: DockerPlace, tmp_path: Path
) -> None:
    script = "print('loading model', flush=True); x = bytearray(400 * 2**20); serve()"
    error = refused(place, tmp_path / "log", script, container={"memory_bytes": 64 * 2**20})
    assert isinstance(error, StartError)
    assert error.exit_status == "killed by SIGKILL"
    assert "OOMKilled" in error.log_tail[-1]


def test_somebody_elses_container_of_that_name_is_left_alone(
    place: DockerPlace, client: docker.DockerClient, tmp_path: Path
) -> None:
    what = place.launch("serve()")
    assert what.container
    options = container_options(what) | {"labels": {}}
    theirs = client.containers.create(**options)
    try:
        assert not remove_ours(client, what.container.name)
        error = refused(place, tmp_path / "log", container={"name": what.container.name})
        assert "it is not ours" in error.what
        theirs.reload()
    finally:
        theirs.remove()


def test_what_a_killed_leadline_left_is_ours_to_replace(
    place: DockerPlace, client: docker.DockerClient, tmp_path: Path
) -> None:
    what = place.launch("serve()")
    assert what.container
    owner = f"leadline-test-{uuid4().hex[:8]}"
    left = client.containers.create(**container_options(what, owner=owner))
    assert [c.id for c in find_ours(client, owner)] == [left.id]
    target = DockerTarget(owner=owner)

    async def run() -> None:
        await target.start(what, tmp_path / "log", 60, lambda _: None)
        await target.stop()

    asyncio.run(run())
    assert find_ours(client, owner) == []


def test_the_container_of_another_run_is_not_replaced(
    place: DockerPlace, client: docker.DockerClient, tmp_path: Path
) -> None:
    what = place.launch("serve()")
    assert what.container
    other = client.containers.create(**container_options(what, owner="another-run"))
    error = refused(place, tmp_path / "log", container={"name": what.container.name})
    assert "started by another-run" in error.what
    assert error.cure == f"leadline down {what.container.name}"
    other.reload()


def test_a_server_that_never_stays_up_is_not_waited_for(
    place: DockerPlace, client: docker.DockerClient, tmp_path: Path
) -> None:
    what = place.launch("print('no weights', flush=True); sys.exit(3)")
    assert what.container
    options = container_options(what) | {"restart_policy": {"Name": "always"}}
    client.containers.create(**options).start()
    target = place.target()

    async def run() -> None:
        try:
            await target.adopt(what, tmp_path / "log", 60, lambda _: None)
        finally:
            await target.release()

    with pytest.raises(StartError, match="ends and is started again") as caught:
        asyncio.run(run())
    (shown,) = [found for found in DockerServices().services() if found.name == what.container.name]
    assert shown.state == "running" or "ends with exit code 3 and is" in shown.waits
    assert shown.restarts >= 3
    assert "no weights" in caught.value.log_tail
    assert explain(Evidence(start_cause="exited", log=caught.value.log_tail)).code == "DOCKER008"


def test_an_interruption_while_the_container_is_made_leaves_none(
    place: DockerPlace, client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = place.launch("serve()")
    assert what.container
    begun = threading.Event()
    create = containers.create

    def create_slowly(*arguments: Any) -> Any:
        begun.set()
        time.sleep(0.2)
        return create(*arguments)

    monkeypatch.setattr(containers, "create", create_slowly)

    async def run() -> None:
        block = deployed(place.target(), what, tmp_path / "log", 60, lambda _: None)
        task = asyncio.ensure_future(block.__aenter__())
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert what.container.name not in {found.name for found in find_ours(client)}


def test_volumes_go_only_when_asked_and_only_ours(
    place: DockerPlace, client: docker.DockerClient
) -> None:
    name = f"leadline-test-{uuid4().hex[:8]}"
    theirs = client.volumes.create(f"{name}-theirs")
    volumes = (Volume(f"{name}-ours", "/ours"), Volume(theirs.name, "/theirs"))
    what = place.launch("serve()", container={"volumes": volumes})
    assert what.container
    containers.label_volumes(client, what)
    services = DockerServices()
    try:
        client.containers.create(**container_options(what))
        kept = services.down(what.container.name, volumes=False)
        assert sorted(kept)[1:] == [f"volume {name}-ours: kept", f"volume {name}-theirs: kept"]
        client.containers.create(**container_options(what))
        told = services.down(what.container.name, volumes=True)
        assert f"volume {name}-ours: removed" in told
        assert f"volume {name}-theirs: left, in use or not ours" in told
    finally:
        theirs.remove()


def test_an_image_that_may_not_be_pulled(place: DockerPlace, tmp_path: Path) -> None:
    changed = {"image": "leadline/no-such-image:1", "pull": "never"}
    error = refused(place, tmp_path / "log", container=changed)
    assert "the image is not there, and pull is never" in error.what


def test_an_image_is_pulled_with_progress_and_its_digest_known(
    place: DockerPlace, client: docker.DockerClient, tmp_path: Path
) -> None:
    phases: list[str] = []
    with open_registry(tmp_path, free_port()) as registry:
        name = push_image(client, f"{registry}/leadline/test")
        what = place.launch("serve()", container={"image": f"{name}:1"})
        target = place.target()

        async def run() -> None:
            await target.start(what, tmp_path / "log", 60, phases.append)
            await target.stop()

        asyncio.run(run())
        pinned = str(target.image)
        assert pinned.startswith(f"{name}@sha256:")
        client.images.remove(f"{name}:1", force=True)
        # What was pinned can be had again by its digest alone.
        assert require_image(client, pinned, phases.append) == pinned
        client.images.remove(pinned, force=True)
        with pytest.raises(StartError, match=r"manifest unknown|not found"):
            require_image(client, f"{name}:2", phases.append)
    assert phases[0] == "pulling the image"
    assert any(re.fullmatch(r"pulling the image: \d+% of [\d.]+ MiB", text) for text in phases)


def push_image(client: docker.DockerClient, name: str) -> str:
    """The tests' image and 32 MiB on top, in a registry and no longer here."""
    made = client.containers.create(IMAGE, ["/bin/true"])
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("weight")
        entry.size = 32 * 2**20
        tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    made.put_archive("/tmp", out.getvalue())
    made.commit(name, "1")
    made.remove()
    assert "errorDetail" not in str(client.images.push(name, "1"))
    client.images.remove(f"{name}:1", force=True)
    return name


def test_secrets_of_a_file_reach_the_server_and_no_argument(
    place: DockerPlace, client: docker.DockerClient, tmp_path: Path
) -> None:
    file = tmp_path / "secrets.env"
    file.write_text("# mine\nHF_TOKEN=hf_of_the_file\n")
    file.chmod(0o600)
    log = tmp_path / "log"
    what = place.launch(
        "print(os.environ['HF_TOKEN'][:3], flush=True); serve()", container={"env_file": str(file)}
    )
    target = place.target()

    async def run() -> None:
        await target.start(what, log, 60, lambda _: None)
        await target.stop()

    asyncio.run(run())
    assert log.read_text().startswith("hf_\n")
    assert "hf_of_the_file" not in " ".join(what.argv)


def test_requests_carry_the_key_that_the_server_was_given(
    place: DockerPlace, tmp_path: Path
) -> None:
    file = tmp_path / "secrets.env"
    file.write_text("VLLM_API_KEY=sesame-12345\n")
    file.chmod(0o600)
    what = place.launch("serve()", container={"env_file": str(file)}, api_key_env="VLLM_API_KEY")
    target = place.target()

    async def run() -> Endpoint:
        endpoint = await target.start(what, tmp_path / "log", 60, lambda _: None)
        await target.stop()
        return endpoint

    assert asyncio.run(run()).headers == {"Authorization": "Bearer sesame-12345"}


def test_a_file_of_secrets_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secrets.env"
    file.write_text("HF_TOKEN=x\n")
    file.chmod(0o644)
    with pytest.raises(SpecError, match="others on this machine") as caught:
        read_env_file(str(file))
    assert caught.value.cure == f"chmod 600 {file}"


def test_the_rendered_command_makes_the_very_container_that_is_started(
    place: DockerPlace, client: docker.DockerClient, tmp_path: Path
) -> None:
    """``docker run`` as rendered and the SDK as used: the engine shows no difference."""
    devices = Devices("nvidia", 2)
    what = place.launch("serve()", env={"A": "b c"}, container={"devices": devices})
    assert what.container
    env_file = tmp_path / "x.env"
    env_file.write_text("")
    words = [word for group in run_arguments(what, str(env_file)) for word in group]
    words.remove("--detach")
    command = ["docker", "--host", SOCKET, "create", *words]
    by_command = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    shown = client.api.inspect_container(by_command)
    client.api.remove_container(by_command)
    started = client.containers.create(**container_options(what))
    assert comparable(started.attrs) == comparable(shown)


def comparable(attrs: dict[str, Any]) -> dict[str, Any]:
    """What makes a container what it is, without what differs by design (label, restart)."""
    host, config = attrs["HostConfig"], attrs["Config"]
    kept = ("PortBindings", "ShmSize", "Init", "Memory", "LogConfig", "Devices")
    return {
        **{name: host[name] or None for name in kept},
        "Binds": sorted(host["Binds"]),
        "Ulimits": sorted(host["Ulimits"], key=lambda limit: str(limit["Name"])),
        "Gpus": [(r["Count"], r["Capabilities"]) for r in host["DeviceRequests"]],
        **{name: config[name] for name in ("Image", "Cmd", "Entrypoint")},
        "Env": sorted(config["Env"]),
        "Label": config["Labels"][LABEL],
    }
