"""What the doctor says of a machine: with nothing there, and with too little for a campaign."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from leadline.cli.main import _exit_code
from leadline.preflight import cluster, devices, machine, models
from leadline.preflight.check import Check, Needs, read_needs
from leadline.preflight.cluster import check_cluster, judge_nodes
from leadline.preflight.devices import judge_gpus, judge_neuron, judge_topology
from leadline.preflight.docker import check_docker
from leadline.preflight.machine import check_machine
from leadline.preflight.models import check_models
from leadline.spec import read_campaign
from leadline.units import GIB

EXAMPLES = Path(__file__).parents[2] / "examples"
SCOUT = EXAMPLES / "scout" / "scout.yaml"


@pytest.fixture(scope="module")
def scout() -> Needs:
    return read_needs(read_campaign(SCOUT))


def named(checks: Any, name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def test_a_campaign_needs_what_its_plans_say(scout: Needs) -> None:
    assert scout.gpus == 8
    assert scout.neuron_devices == 0
    assert scout.shm_bytes >= 2 * GIB
    (weights,) = scout.weights.values()
    assert weights > 200 * GIB  # 109 billion parameters of 2 bytes
    assert "vllm/vllm-openai:v0.12.0" in scout.images
    assert scout.unplanned == ()


def test_of_a_bare_machine_nothing_fails_and_what_is_absent_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(models, "can_reach_hub", lambda: False)
    assert _exit_code(["doctor", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["Docker"]["state"] == "absent"
    assert checks["kubectl"]["state"] == "absent"
    assert checks["hub"]["state"] == "absent"
    assert checks["host memory"]["state"] == "ok"


def test_a_campaign_that_needs_more_fails_with_cures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(models, "can_reach_hub", lambda: False)
    monkeypatch.setattr("leadline.preflight.devices.shutil.which", lambda _: None)
    assert _exit_code(["doctor", str(SCOUT)]) == 1
    said = capsys.readouterr().out
    assert "✗ Docker" in said
    assert "set DOCKER_HOST" in said
    assert "of its weights in the cache, and no hub" in said


def test_a_taken_port_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        found = named(check_machine(Needs(ports=(port,))), f"port {port}")
    assert found.state == "fail"
    assert found.found == "Address already in use"
    assert named(check_machine(Needs(ports=(port,))), f"port {port}").state == "ok"


def test_too_little_memory_fails_and_too_little_free_warns(
    scout: Needs, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        total = 0
        available = 0

    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: Memory)
    assert named(check_machine(scout), "host memory").state == "fail"
    Memory.total = scout.host_bytes * 2
    assert named(check_machine(scout), "host memory").state == "warn"
    Memory.available = scout.host_bytes
    assert named(check_machine(scout), "host memory").state == "ok"


def test_gpus_too_few_or_held_by_others() -> None:
    h200 = ("NVIDIA H200", 140 * GIB, 141 * GIB)
    held = ("NVIDIA H200", 100 * GIB, 141 * GIB)
    states = [check.state for check in judge_gpus([h200, held], 2)]
    assert states == ["ok", "ok", "warn"]
    few = next(judge_gpus([h200], 8))
    assert (few.state, few.found) == ("fail", "1 (NVIDIA H200), the plan needs 8")
    assert [check.state for check in judge_gpus([], 0)] == ["absent"]


def test_the_way_between_gpus_counts_where_several_work_together() -> None:
    assert judge_topology(18, 50, 8).found == "18 NVLinks up on each GPU"
    assert judge_topology(0, 10, 2).state == "ok"
    far = judge_topology(0, 50, 2)
    assert (far.state, "across CPU sockets" in far.found) == ("warn", True)
    assert judge_topology(0, 50, 1).state == "ok"


NEURON_LS = json.dumps(
    [
        {
            "neuron_device": n,
            "bdf": f"00:0{n}.0",
            "connected_to": None,
            "nc_count": 4,
            "memory_size": 96 * GIB,
            "neuron_processes": [],
        }
        for n in range(2)
    ]
).encode()


def test_neuron_devices_are_counted() -> None:
    assert judge_neuron(NEURON_LS, 2).found == "2 with 8 cores and 192 GiB"
    assert judge_neuron(NEURON_LS, 16).state == "fail"
    assert judge_neuron(b"", 0).state == "warn"
    assert judge_neuron(b"", 1).state == "fail"
    held = json.loads(NEURON_LS)
    held[0]["neuron_processes"] = [{"pid": 7, "command": "vllm"}]
    assert "1 processes hold some" in judge_neuron(json.dumps(held).encode(), 1).found


def node(gpus: int, memory: str, ready: str = "True", **spec: Any) -> dict[str, Any]:
    return {
        "spec": spec,
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus), "memory": memory},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def test_a_node_must_be_ready_and_have_devices_and_memory(scout: Needs) -> None:
    nodes = {"items": [node(4, "2Ti"), node(8, "1Gi"), node(8, "2Ti", unschedulable=True)]}
    nodes["items"].append(node(8, "2Ti", ready="False"))
    assert judge_nodes(nodes, Needs()).found == "2 of 4 take pods, up to 8 nvidia.com/gpu on one"
    wanted = Needs(targets=frozenset({"kubernetes"}), services=scout.services)
    refused = judge_nodes(nodes, wanted)
    assert refused.state == "fail"
    assert "no node has 8 nvidia.com/gpu and " in refused.found
    nodes["items"].append(node(8, "2048Gi"))
    assert judge_nodes(nodes, wanted).state == "ok"


KUBECTL = """#!/bin/sh
case "$*" in
*version*) echo '{"serverVersion": {"gitVersion": "v1.31.2"}}' ;;
*"get nodes"*) echo 'nodes is forbidden' >&2; exit 1 ;;
*"can-i create secrets"*) echo no; exit 1 ;;
*) echo yes ;;
esac
echo "$*" >>"$0.asked"
"""


def test_what_may_not_be_done_in_a_cluster_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    monkeypatch.setattr(cluster.shutil, "which", lambda _: str(kubectl))
    needs = Needs(targets=frozenset({"kubernetes"}), clusters=(("prod", "models"),))
    answers, capacity, rights = check_cluster(needs)
    assert answers == Check("cluster prod models", "ok", "Kubernetes v1.31.2")
    assert (capacity.state, rights.state) == ("absent", "fail")
    assert rights.found == "refused: create secrets"
    asked = (tmp_path / "kubectl.asked").read_text().splitlines()
    assert all("--context=prod --namespace=models" in line for line in asked)


def test_a_cluster_that_does_not_answer_fails_only_if_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\necho noise >&2\necho 'connection refused' >&2\nexit 1\n")
    kubectl.chmod(0o755)
    monkeypatch.setattr(cluster.shutil, "which", lambda _: str(kubectl))
    assert list(check_cluster(Needs())) == [Check("cluster", "absent", "connection refused")]
    (needed,) = check_cluster(Needs(targets=frozenset({"kubernetes"})))
    assert needed.state == "fail"
    assert needed.cure


def test_kubectl_that_hangs_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def hang(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("kubectl", 20)

    monkeypatch.setattr(cluster.shutil, "which", lambda _: "kubectl")
    monkeypatch.setattr(cluster.subprocess, "run", hang)
    assert "timed out" in next(check_cluster(Needs())).found


def test_no_docker_is_absent_until_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    (check,) = check_docker(Needs())
    assert (check.state, check.cure) == ("absent", "")
    (needed,) = check_docker(Needs(targets=frozenset({"docker"})))
    assert needed.state == "fail"


def test_a_model_of_which_only_the_config_is_here_is_not_here(
    scout: Needs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (name,) = scout.weights
    snapshot = tmp_path / "hub" / f"models--{name.replace('/', '--')}" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(models, "can_reach_hub", lambda: False)
    assert named(check_models(scout), f"model {name}").state == "fail"
    with (snapshot / "model-1.safetensors").open("wb") as sparse:
        sparse.truncate(scout.weights[name])
    assert named(check_models(scout), f"model {name}").state == "ok"


def test_the_packages_of_the_neuron_runtime_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for program, said in (
        ("neuron-ls", f"cat <<'E'\n{NEURON_LS.decode()}\nE"),
        ("dpkg-query", '[ "$3" != aws-neuronx-runtime-lib ] || { echo 2.27.23.0; exit; }; exit 1'),
    ):
        (tmp_path / program).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = named(devices.check_devices(Needs()), "Neuron runtime")
    assert (found.state, found.found) == ("absent", "runtime-lib 2.27.23.0")
