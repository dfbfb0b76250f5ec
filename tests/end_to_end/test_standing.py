"""``leadline up``, ``status``, ``logs`` and ``down`` on real containers with a real engine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from tests.end_to_end.conftest import Leadline, wait_for, wait_for_no_servers
from tests.end_to_end.containers import ENGINE, containers_of, in_docker

from leadline.deploy.process import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


def test_a_service_comes_up_is_shown_and_goes(
    leadline: Leadline,
    campaign_file: Callable[..., Path],
    client: Any,
    name: str,
) -> None:
    file = campaign_file(name=name, deployments={"docker": in_docker()})
    port = str(free_port())
    raised = leadline("up", file, "--port", port)
    assert raised.returncode == 0, raised.stderr
    assert raised.stdout == f"http://127.0.0.1:{port}\n"
    assert "loading the weights" in raised.stderr
    (container,) = containers_of(client, name)
    assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"

    again = leadline("up", file, "--port", port)
    assert (again.returncode, again.stdout) == (0, raised.stdout)
    assert "it is up already" in again.stderr
    assert [found.id for found in containers_of(client, name)] == [container.id]

    other = leadline("up", file, "--port", str(free_port()))
    assert other.returncode == 2
    assert "up with other settings" in other.stderr
    assert [found.id for found in containers_of(client, name)] == [container.id]

    shown = leadline("status", container.name, "--json")
    assert shown.returncode == 0, shown.stderr
    (service,) = json.loads(shown.stdout)["services"]
    assert (service["phase"], service["engine"]) == ("ready", "llamacpp")
    assert service["gauges"]["waiting"] == 0
    assert service["counters"]["prompt_tokens"] > 0
    assert "running 0" in leadline("status", container.name).stdout
    assert "model loaded" in leadline("logs", container.name).stdout

    gone = leadline("down", container.name)
    assert gone.stdout == f"{container.name}: gone\n"
    assert leadline("down", container.name).returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_takes_away_what_it_started(
    number: signal.Signals,
    leadline: Leadline,
    spawn: Callable[..., subprocess.Popen[str]],
    campaign_file: Callable[..., Path],
    client: docker.DockerClient,
    name: str,
) -> None:
    """After SIGKILL nobody can: ``down`` does."""
    slow = in_docker()
    slow["target"] |= {"executable": "/bin/sleep"}
    slow["settings"] = {}
    file = campaign_file(name=name, deployments={"docker": slow})
    process = spawn("up", file, "--port", str(free_port()))
    wait_for(lambda: containers_of(client, name))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    left = containers_of(client, name)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "what this command started is gone again" in stderr
        assert left == []
    else:
        assert len(left) == 1
        assert leadline("down", left[0].name).returncode == 0
        assert containers_of(client, name) == []


def test_a_service_that_fails_is_explained_and_gone(
    leadline: Leadline,
    campaign_file: Callable[..., Path],
    client: Any,
    name: str,
) -> None:
    file = campaign_file(name=name, deployments={"docker": in_docker(memory="16MiB")})
    failed = leadline("up", file, "--port", str(free_port()))
    assert failed.returncode == 2
    assert "DOCKER001 The container went over its memory limit" in failed.stderr
    assert containers_of(client, name) == []


def test_an_occupied_port_is_said(
    leadline: Leadline,
    campaign_file: Callable[..., Path],
    client: Any,
    name: str,
) -> None:
    file = campaign_file(name=name, deployments={"docker": in_docker()})
    with socket.create_server(("127.0.0.1", 0)) as holder:
        failed = leadline("up", file, "--port", str(holder.getsockname()[1]))
    assert failed.returncode == 2
    assert "START001 The port is already in use" in failed.stderr


def test_a_process_serves_until_it_is_interrupted(
    leadline: Leadline,
    spawn: Callable[..., subprocess.Popen[str]],
    campaign_file: Callable[..., Path],
) -> None:
    """A deployment for containers too; who runs it is nothing to ``status --url``."""
    port = free_port()
    file = campaign_file(deployments={"here": {**ENGINE, "target": "docker"}})
    process = spawn("up", file, "--target", "process", "--port", str(port))
    assert process.stdout
    assert process.stdout.readline() == f"http://127.0.0.1:{port}\n"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
        assert answer.status == 200
    shown = leadline("status", "--url", f"http://127.0.0.1:{port}", "--json")
    (server,) = json.loads(shown.stdout)["services"]
    assert (server["phase"], server["engine"]) == ("ready", "llamacpp")
    assert server["counters"]["prompt_tokens"] > 0
    nobody = leadline("status", "--url", f"http://127.0.0.1:{free_port()}")
    assert (nobody.returncode, "does not answer" in nobody.stdout) == (1, True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert wait_for_no_servers() == []


def test_what_stays_up_nowhere_is_refused(
    leadline: Leadline, campaign_file: Callable[..., Path]
) -> None:
    refused = leadline("up", campaign_file(), "--target", "moon")
    assert refused.returncode == 3
    assert "nothing stays up on target moon" in refused.stderr
    assert os.linesep in refused.stderr
