"""What ``leadline up`` takes from a deployment and what from its command line."""

from __future__ import annotations

from typing import Any

import pytest

from leadline.campaign.standing import PORT, Place, Wanted, next_steps, want
from leadline.errors import SpecError
from leadline.spec import Campaign, DockerTarget, KubernetesTarget


def wanted(target: dict[str, Any], *place: str | None, port: int | None = None) -> Wanted:
    deployment = {"engine": "llamacpp", "target": {"image": "i:1", **target}}
    data = {"name": "c", "model": "m.gguf", "deployments": {"one": deployment}}
    return want(Campaign.model_validate(data), None, Place(*place), port, force=False)


def test_a_deployment_for_docker_keeps_its_image_and_limits_in_a_cluster() -> None:
    found = wanted(
        {"kind": "docker", "memory": "2GiB", "volumes": ["/here:/there"], "port": 9000},
        "kubernetes",
    )
    assert isinstance(found.target, KubernetesTarget)
    assert (found.service.image, found.service.memory_bytes) == ("i:1", 2**31)
    assert found.service.volumes == ()  # nothing of this machine
    assert found.asked_port is None


def test_the_command_line_names_the_place_and_the_rest_is_the_deployments() -> None:
    own = {"kind": "kubernetes", "context": "a", "namespace": "n", "node_selector": {"gpu": "h200"}}
    found = wanted(own, None, "b", None)
    assert found.target == KubernetesTarget(
        image="i:1", context="b", namespace="n", node_selector={"gpu": "h200"}
    )
    assert list(next_steps(found)) == [
        "leadline status | logs | down c-one --target kubernetes --context b --namespace n",
        f"kubectl --context b --namespace n port-forward service/c-one {PORT}:80",
    ]


def test_a_port_is_kept_in_docker_and_free_in_a_cluster() -> None:
    assert wanted({"kind": "docker"}).port == PORT
    assert wanted({"kind": "docker", "port": 9000}).port == 9000
    assert wanted({"kind": "docker", "port": 9000}, port=9001).port == 9001
    assert wanted({"kind": "kubernetes"}).port != PORT
    assert list(next_steps(wanted({"kind": "docker"}))) == ["leadline status | logs | down c-one"]


def test_docker_has_no_contexts() -> None:
    with pytest.raises(SpecError, match="no contexts"):
        wanted({"kind": "docker"}, None, "b")
    assert isinstance(wanted({"kind": "kubernetes"}, "docker").target, DockerTarget)
