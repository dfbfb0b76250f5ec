"""A real engine in pods of a real cluster: campaigns, services, and what an end leaves."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from tests.cluster import cluster as test_cluster
from tests.deploy.places import KubernetesPlace, open_place
from tests.end_to_end.conftest import Finish, Leadline, Start, events, wait_for

from leadline.deploy.process import free_port
from leadline.journal import Run
from leadline.metrics.sampling import read_samples
from leadline.spec import read_campaign

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = EXAMPLES / "small-targets.yaml"
IMAGE = "leadline-small:1"
CHANGES = ["ENV PATH=/usr/local/bin:/bin", "ENV PYTHONPATH=/packages"]
ENGINE: dict[str, Any] = {"engine": "llamacpp", "settings": {"ctx_size": 1024, "threads": 2}}
WORKLOAD = {"input_tokens": 256, "output_tokens": 24, "repeats": 2, "limit_probes": False}
KINDS = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "PodDisruptionBudget": "/apis/policy/v1beta1/namespaces/{}/poddisruptionbudgets",
}


@pytest.fixture(scope="module")
def image() -> str:
    """As the example says that it is made."""
    try:
        open_place("kubernetes")
    except LookupError as missing:
        pytest.skip(str(missing))
    made = subprocess.run([sys.executable, EXAMPLES / "small_image.py"], stdout=-1, check=True)
    repository, _, tag = IMAGE.partition(":")
    with closing(docker.from_env()) as client:
        client.api.import_image_from_data(
            io.BytesIO(made.stdout), repository=repository, tag=tag, changes=CHANGES
        )
    return IMAGE


@pytest.fixture
def namespace(image: str) -> Iterator[str]:
    """With somebody else's objects in it, which are left alone, and nothing of ours at the end."""
    place = KubernetesPlace()
    path = f"/api/v1/namespaces/{place.namespace}"
    body = {"metadata": {"name": place.namespace, "labels": {"leadline-test": place.namespace}}}
    test_cluster.create("/api/v1/namespaces", body)
    wait_for(lambda: test_cluster.read(f"{path}/serviceaccounts/default"))
    foreign = {"metadata": {"name": "theirs", "labels": {"app.kubernetes.io/managed-by": "helm"}}}
    test_cluster.create(f"{path}/services", {**foreign, "spec": {"ports": [{"port": 80}]}})
    yield place.namespace
    assert test_cluster.read(f"{path}/services/theirs")
    assert wait_for(lambda: not ours(place.namespace))
    place.close()


def in_cluster(namespace: str, **changes: Any) -> dict[str, Any]:
    target = {
        "kind": "kubernetes",
        "image": IMAGE,
        "pull": "never",
        "executable": "python3",
        "namespace": namespace,
        **changes,
    }
    return {**ENGINE, "target": target}


def items(namespace: str, kind: str) -> list[dict[str, Any]]:
    found = test_cluster.read(KINDS[kind].format(namespace))
    return list(found["items"]) if found else []


def ours(namespace: str) -> set[str]:
    """Kinds and names of what carries our label, what is on its way out aside."""
    return {
        f"{kind} {item['metadata']['name']}"
        for kind in KINDS
        for item in items(namespace, kind)
        if item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "leadline"
        and "deletionTimestamp" not in item["metadata"]
    }


def runs_server(namespace: str) -> bool:
    return any(
        "running" in status["state"]
        for pod in items(namespace, "Pod")
        for status in pod["status"].get("containerStatuses", [])
    )


# --- campaigns ------------------------------------------------------------------------------


def test_the_example_runs_the_same_cells_on_three_targets_and_says_what_each_costs(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], namespace: str, tmp_path: Path
) -> None:
    """The example itself, in a namespace of the test's, with one length and six prompts."""
    read = read_campaign(SMALL).model_dump(mode="json", exclude_unset=True)
    read["deployments"]["kubernetes"]["target"]["namespace"] = namespace
    read["matrix"] = {}
    read["workload"] |= {"input_tokens": 64, "repeats": 6}
    outcome = finish(start("run", campaign_file(**read)))
    assert outcome.code == 0, outcome.stderr
    costs = {tuple(cost["targets"]): cost for cost in outcome.report["target_costs"]}
    assert set(costs) == {
        ("process", "docker"),
        ("process", "kubernetes"),
        ("docker", "kubernetes"),
    }
    for cost in costs.values():
        assert all(seconds > 0 for seconds in cost["start_s"])
        (ttft,) = cost["ttft"]
        difference = ttft["difference_s"]
        assert ttft["prompts"] == 6
        assert difference["low"] <= difference["value"] <= difference["high"]
    assert "95 % interval" in (outcome.run / "report.md").read_text(encoding="utf-8")
    samples = read_samples(Run(outcome.run))
    assert {sample.deployment for sample in samples} == set(read["deployments"])
    assert not [sample for sample in samples if sample.failure]
    ready = next(e for e in events(tmp_path, "deployment_ready") if e.get("node"))
    assert (ready["node"], ready["namespace"]) == (test_cluster.NODE, namespace)
    assert ready["image"].startswith("sha256:")
    (told,) = outcome.run.rglob("kubernetes.jsonl")
    assert '"reason": "Started"' in told.read_text(encoding="utf-8")


def test_a_pod_over_its_limit_is_explained(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], namespace: str
) -> None:
    file = campaign_file(deployments={"small": in_cluster(namespace, memory="64MiB")})
    outcome = finish(start("run", file))
    assert outcome.code == 2
    assert [found["code"] for found in outcome.report["findings"]] == ["K8S007"]


def test_an_image_that_is_not_there_is_a_finding_and_other_deployments_go_on(
    start: Start, finish: Finish, campaign_file: Callable[..., Path], namespace: str
) -> None:
    absent = in_cluster(namespace, image="leadline-no-such-image:1")
    file = campaign_file(deployments={"absent": absent, "process": ENGINE})
    outcome = finish(start("run", file))
    assert [found["code"] for found in outcome.report["findings"]] == ["K8S006"]
    assert [cell["status"] for cell in outcome.report["cells"]] == ["fail", "pass"]


PHASES: dict[str, Callable[[Path, str], Any]] = {
    "applied": lambda at, namespace: items(namespace, "Deployment"),
    "running": lambda at, namespace: runs_server(namespace),
    "under way": lambda at, namespace: [*at.rglob("records.jsonl")],
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_in_any_phase_leaves_nothing_once_the_run_is_resumed(
    number: signal.Signals,
    phase: str,
    start: Start,
    finish: Finish,
    campaign_file: Callable[..., Path],
    namespace: str,
    tmp_path: Path,
) -> None:
    file = campaign_file(deployments={"pod": in_cluster(namespace)}, workload=WORKLOAD)
    first = start("run", file)
    wait_for(lambda: PHASES[phase](tmp_path, namespace))
    first.send_signal(number)
    _, stderr = first.communicate(timeout=60)
    left = [item["metadata"]["name"] for item in items(namespace, "Deployment")]
    if number == signal.SIGINT:
        assert first.returncode == 130
        assert left == []
        assert "Traceback" not in stderr
    else:
        assert len(left) == 1  # nobody was there to take it away

    outcome = finish(start("run", file))
    assert outcome.code == 0, outcome.stderr
    removed = [found["container"] for found in events(tmp_path, "leftover_removed")]
    assert removed == left


# --- services that stay ---------------------------------------------------------------------


def test_a_service_comes_up_is_shown_restarts_and_goes(
    leadline: Leadline, campaign_file: Callable[..., Path], namespace: str
) -> None:
    place = ("--target", "kubernetes", "--namespace", namespace)
    file = campaign_file(name="stays", deployments={"pod": in_cluster(namespace)})
    raised = leadline("up", file)
    assert raised.returncode == 0, raised.stderr
    assert raised.stdout == f"http://stays-pod.{namespace}.svc\n"
    assert "loading the weights" in raised.stderr
    assert f"leadline status | logs | down stays-pod {' '.join(place)}" in raised.stderr
    (pod,) = items(namespace, "Pod")
    conditions = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    assert conditions["Ready"] == "True"  # so the Service sends requests there

    again = leadline("up", file)
    assert (again.returncode, again.stdout) == (0, raised.stdout)
    assert "it is up already" in again.stderr
    assert [found["metadata"]["uid"] for found in items(namespace, "Pod")] == [
        pod["metadata"]["uid"]
    ]
    other = campaign_file(name="stays", deployments={"pod": in_cluster(namespace, memory="2GiB")})
    refused = leadline("up", other)
    assert refused.returncode == 2
    assert "up with other settings" in refused.stderr

    shown = leadline("status", "stays-pod", *place, "--json")
    assert shown.returncode == 0, shown.stderr
    (service,) = json.loads(shown.stdout)["services"]
    assert (service["phase"], service["engine"]) == ("ready", "llamacpp")
    assert service["counters"]["prompt_tokens"] > 0
    assert "model loaded" in leadline("logs", "stays-pod", *place).stdout
    never = leadline("logs", "stays-pod", *place, "--previous")
    assert "never started anew" in never.stderr

    kill_server(pod)
    wait_for(lambda: restarts(namespace) and runs_server(namespace))
    assert "model loaded" in leadline("logs", "stays-pod", *place, "--previous").stdout

    gone = leadline("down", "stays-pod", *place)
    assert gone.stdout == "stays-pod: gone\n"
    assert leadline("down", "stays-pod", *place).returncode == 3


def kill_server(pod: dict[str, Any]) -> None:
    (status,) = pod["status"]["containerStatuses"]
    with closing(docker.from_env()) as client:
        client.containers.get(status["containerID"].removeprefix("docker://")).kill()


def restarts(namespace: str) -> int:
    (pod,) = items(namespace, "Pod")
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def test_a_forwarded_port_of_the_hint_answers(
    leadline: Leadline, campaign_file: Callable[..., Path], namespace: str
) -> None:
    """What ``up`` prints for a browser is what kubectl understands."""
    need_kubectl()
    port = free_port()
    file = campaign_file(name="asked", deployments={"pod": in_cluster(namespace)})
    raised = leadline("up", file, "--port", str(port))
    (hint,) = [line for line in raised.stderr.splitlines() if "port-forward" in line]
    forward = subprocess.Popen(hint.split(), stdout=subprocess.PIPE)
    try:
        assert forward.stdout
        assert forward.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
    finally:
        forward.terminate()
        forward.communicate()
        leadline("down", "asked-pod", "--target", "kubernetes", "--namespace", namespace)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_takes_away_what_it_started(
    number: signal.Signals,
    leadline: Leadline,
    spawn: Callable[..., subprocess.Popen[str]],
    campaign_file: Callable[..., Path],
    namespace: str,
) -> None:
    """After SIGKILL nobody can: ``down`` does."""
    file = campaign_file(name="slow", deployments={"pod": in_cluster(namespace)})
    process = spawn("up", file)
    wait_for(lambda: items(namespace, "Deployment"))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    place = ("--target", "kubernetes", "--namespace", namespace)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "what this command started is gone again" in stderr
    else:
        assert "slow-pod" in leadline("status", *place).stdout
        assert leadline("down", *place).stdout == "slow-pod: gone\n"
    assert not items(namespace, "Deployment")


def test_what_was_applied_half_is_shown_and_removed(
    leadline: Leadline,
    spawn: Callable[..., subprocess.Popen[str]],
    campaign_file: Callable[..., Path],
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed while the cluster thinks about the Deployment, after Secret, Service and budget."""
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_test_only")
    file = campaign_file(name="half", deployments={"pod": in_cluster(namespace)})
    with socket.create_server(("127.0.0.1", 0)) as silent, hesitating(namespace, silent):
        process = spawn("up", file)
        silent.settimeout(60)
        asking, _ = silent.accept()
        process.kill()
        process.communicate()
        asking.close()
    place = ("--target", "kubernetes", "--namespace", namespace)
    assert {found.split()[0] for found in ours(namespace)} == {
        "Secret",
        "Service",
        "PodDisruptionBudget",
    }
    (found,) = json.loads(leadline("status", *place, "--json").stdout)["services"]
    assert (found["standing"]["name"], found["standing"]["state"]) == ("half-pod", "incomplete")
    assert "leadline down removes it" in found["phase"]
    assert leadline("down", *place).stdout == "half-pod: gone\n"
    assert ours(namespace) == set()


@contextmanager
def hesitating(namespace: str, silent: socket.socket) -> Iterator[None]:
    """Admission of Deployments in that namespace asks somebody who never answers."""
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "resources": ["deployments"],
        "operations": ["CREATE"],
    }
    hook = {
        "name": "slow.leadline.test",
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"leadline-test": namespace}},
        "clientConfig": {"url": f"https://127.0.0.1:{silent.getsockname()[1]}/"},
        "failurePolicy": "Fail",
        "timeoutSeconds": 30,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    test_cluster.create(path, {"metadata": {"name": f"slow-{namespace}"}, "webhooks": [hook]})
    try:
        time.sleep(1)  # until the API server has heard of it
        yield
    finally:
        test_cluster.delete(f"{path}/slow-{namespace}")


def test_the_doctor_sees_the_cluster(
    leadline: Leadline, campaign_file: Callable[..., Path], namespace: str
) -> None:
    need_kubectl()
    file = campaign_file(deployments={"pod": in_cluster(namespace)})
    told = leadline("doctor", file, "--json").stdout
    checks = {check["name"]: check for check in json.loads(told)["checks"]}
    assert checks[f"cluster {namespace}"]["found"] == "Kubernetes v1.20.2"
    assert checks["nodes"]["found"].startswith("1 of 1 take pods")
    assert checks["cluster permissions"]["state"] == "ok"


def test_the_doctor_names_the_rights_that_a_user_lacks(
    leadline: Leadline,
    campaign_file: Callable[..., Path],
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_kubectl()
    monkeypatch.setenv("KUBECONFIG", str(test_cluster.GUEST))
    file = campaign_file(deployments={"pod": in_cluster(namespace)})
    found = leadline("doctor", file)
    assert found.returncode == 1
    assert "create deployments" in found.stdout
    assert "create pods/portforward" in found.stdout


def need_kubectl() -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
