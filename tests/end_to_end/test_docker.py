"""A real engine in real containers: campaigns on two targets, and what an end leaves behind."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from tests.containers.daemon import IMAGE
from tests.end_to_end.conftest import Finish, Start, events, wait_for
from tests.end_to_end.containers import ENGINE, containers_of, in_docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

WORKLOAD = {"input_tokens": 256, "output_tokens": 24, "repeats": 2, "limit_probes": False}


def test_one_campaign_on_two_targets_tells_what_the_target_costs(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    deployments = {"process": ENGINE, "docker": in_docker()}
    outcome = finish(
        start("run", campaign_file(name=name, deployments=deployments, workload=WORKLOAD))
    )
    assert outcome.code == 0, outcome.stderr
    (cost,) = outcome.report["target_costs"]
    assert cost["targets"] == ["process", "docker"]
    assert all(seconds > 0 for seconds in cost["start_s"])
    assert [found["prompts"] for found in cost["ttft"]] == [2]
    assert "What the target costs" in (outcome.run / "report.md").read_text(encoding="utf-8")
    ready = events(tmp_path, "deployment_ready")[-1]
    assert ready["image"].startswith("sha256:")
    assert ready["container"].startswith(f"{name}-docker-")


def test_a_container_over_its_limit_is_explained(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], name: str
) -> None:
    file = campaign_file(name=name, deployments={"small": in_docker(memory="64MiB")})
    outcome = finish(start("run", file))
    assert outcome.code == 2
    assert [found["code"] for found in outcome.report["findings"]] == ["DOCKER001"]


def test_no_docker_engine_is_a_finding_and_other_deployments_go_on(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    file = campaign_file(name=name, deployments={"docker": in_docker(), "process": ENGINE})
    outcome = finish(start("run", file, DOCKER_HOST=f"unix://{tmp_path}/none.sock"))
    assert [found["code"] for found in outcome.report["findings"]] == ["DOCKER002"]
    assert [cell["status"] for cell in outcome.report["cells"]] == ["fail", "pass"]


def test_what_cannot_be_planned_nor_named_is_refused_before_anything_starts(
    start: Start, finish: Finish, campaign_file: Callable[..., Path]
) -> None:
    file = campaign_file(deployments={"docker": {**ENGINE, "target": "docker"}})
    outcome = finish(start("run", file))
    assert outcome.code == 3
    assert "give target.image" in outcome.stderr


_PHASES = {
    "starting": lambda at, client, name: containers_of(client, name),
    "under way": lambda at, client, name: [*at.rglob("records.jsonl")],
}


@pytest.mark.parametrize("phase", _PHASES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_in_any_phase_leaves_nothing_once_the_run_is_resumed(
    number: signal.Signals,
    phase: str,
    start: Start,
    finish: Finish,
    campaign_file: Callable[..., Path],
    client: docker.DockerClient,
    name: str,
    tmp_path: Path,
) -> None:
    """Somebody else's container, and one of another run, are left alone."""
    theirs = [
        client.containers.create(IMAGE, ["/bin/true"], labels=labels)
        for labels in ({}, {"io.leadline.service": "other", "io.leadline.service.owner": "other"})
    ]
    try:
        file = campaign_file(name=name, deployments={"docker": in_docker()}, workload=WORKLOAD)
        first = start("run", file)
        wait_for(lambda: _PHASES[phase](tmp_path, client, name))
        first.send_signal(number)
        _, stderr = first.communicate(timeout=60)
        left = containers_of(client, name)
        if number == signal.SIGINT:
            assert first.returncode == 130
            assert left == []
            assert "Traceback" not in stderr
        else:
            assert len(left) == 1  # nobody was there to take it away

        outcome = finish(start("run", file))
        assert outcome.code == 0, outcome.stderr
        assert containers_of(client, name) == []
        removed = [found["container"] for found in events(tmp_path, "leftover_removed")]
        assert removed == [container.name for container in left]
        for container in theirs:
            container.reload()
    finally:
        for container in theirs:
            container.remove(force=True)
