"""What only a cluster can refuse or do, on a real one."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.absent import leave_out
from tests.cluster import cluster as test_cluster
from tests.deploy.places import KubernetesPlace, describe, make_pod, open_place

from leadline.deploy import watch
from leadline.deploy.cluster import Cluster, connect
from leadline.deploy.objects import apply_all, find_workloads, remove_all, secret_of
from leadline.deploy.target import StartError
from leadline.diagnose.explain import explain
from leadline.diagnose.rule import Evidence
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.errors import DeployError
from leadline.journal import Redactor
from leadline.launch import Devices, Endpoint, Launch
from leadline.render.kubernetes import Object, list_objects

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
NODE = f"/api/v1/nodes/{test_cluster.NODE}"


@pytest.fixture
def place() -> Iterator[KubernetesPlace]:
    try:
        opened = open_place("kubernetes")
    except LookupError as missing:
        leave_out(missing)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "UNPLACED_S", 3.0)
    monkeypatch.setattr(watch, "REFUSED_S", 3.0)


def asked(use: Callable[[Cluster], Awaitable[Any]]) -> Any:
    """What the cluster answers to one connection."""

    async def run() -> Any:
        cluster = await connect()
        try:
            return await use(cluster)
        finally:
            await cluster.close()

    return asyncio.run(run())


def refused(
    place: KubernetesPlace,
    log: Path,
    script: str = "serve()",
    *,
    manifest: Any = make_pod,
    timeout_s: float = 20,
    **changes: Any,
) -> DeployError:
    target = place.target(manifest=manifest)

    async def run() -> None:
        try:
            await target.start(place.launch(script, **changes), log, timeout_s, lambda _: None)
        finally:
            await target.stop()

    with pytest.raises(DeployError) as caught:
        asyncio.run(run())
    return caught.value


def explained(error: DeployError) -> tuple[str, tuple[str, ...]]:
    """The code of the finding, and its evidence."""
    assert isinstance(error, StartError)
    found = explain(
        Evidence(start_cause=error.cause, exit_status=error.exit_status, log=error.log_tail)
    )
    return found.code, found.evidence


def changed(change: Callable[[Object], None]) -> Any:
    """The manifest of the place with its pod's specification changed."""

    def make(launch: Launch, namespace: str) -> list[Object]:
        objects = make_pod(launch, namespace)
        change(workload(objects)["spec"]["template"]["spec"])
        return objects

    return make


def workload(objects: list[Object]) -> Object:
    return next(item for item in objects if item["kind"] == "Deployment")


def left(place: KubernetesPlace) -> set[str]:
    """Kinds of ours that are in the namespace, what is on its way out aside."""
    paths = {
        "Pod": "/api/v1/namespaces/{}/pods",
        "Secret": "/api/v1/namespaces/{}/secrets",
        "Service": "/api/v1/namespaces/{}/services",
        "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
        "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
        "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
        "PodDisruptionBudget": "/apis/policy/v1beta1/namespaces/{}/poddisruptionbudgets",
    }
    found = set()
    for kind, path in paths.items():
        for item in test_cluster.read(path.format(place.namespace))["items"]:
            if item.get("type") != "kubernetes.io/service-account-token":
                found.add(kind)
    return found


def becomes(seen: Callable[[], Any], wanted: Any) -> bool:
    deadline = time.monotonic() + 150
    while seen() != wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def make_namespace(place: KubernetesPlace) -> str:
    """With the account that its pods run under."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.namespace}}
    test_cluster.create("/api/v1/namespaces", body)
    path = f"/api/v1/namespaces/{place.namespace}"
    assert becomes(lambda: bool(test_cluster.read(f"{path}/serviceaccounts/default")), True)
    return path


# --- reaching a cluster ---------------------------------------------------------------------


def test_no_configuration_is_said_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(DeployError) as caught:
        asked(lambda cluster: cluster.nodes())
    assert caught.value.what == "no cluster is configured"
    assert "KUBECONFIG" in caught.value.cure


def test_a_cluster_that_does_not_answer(
    place: KubernetesPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = test_cluster.KUBECONFIG.read_text().replace(":16443", ":9")
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    error = refused(place, tmp_path / "log")
    assert "no cluster answers" in error.what
    assert error.where == "https://127.0.0.1:9"


def test_a_context_that_is_not_there(place: KubernetesPlace, tmp_path: Path) -> None:
    with pytest.raises(DeployError) as caught:
        asyncio.run(connect("nowhere"))
    assert caught.value.what == "the context nowhere is not there"
    assert "get-contexts" in caught.value.cure


def test_the_context_of_several_files_is_found(
    place: KubernetesPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kubectl does: KUBECONFIG is a list."""
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{test_cluster.KUBECONFIG}")
    nodes = asked(lambda cluster: cluster.nodes())
    assert [node["metadata"]["name"] for node in nodes] == [test_cluster.NODE]


def test_a_client_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.aio.client", None)
    with pytest.raises(DeployError) as caught:
        asyncio.run(connect())
    assert "leadline[kubernetes]" in caught.value.cure


def test_a_user_without_rights(
    place: KubernetesPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(test_cluster.GUEST))
    error = refused(place, tmp_path / "log")
    assert explained(error)[0] == "K8S011"
    assert "ask for that right" in error.cure
    may = asked(lambda cluster: cluster.may("create", "Deployment", place.namespace))
    assert may is False
    monkeypatch.setenv("KUBECONFIG", str(test_cluster.KUBECONFIG))
    assert asked(lambda cluster: cluster.may("create", "Deployment", place.namespace)) is True


# --- a pod that finds no place --------------------------------------------------------------


def test_too_few_gpus_and_then_enough(place: KubernetesPlace, tmp_path: Path) -> None:
    container = {"devices": Devices("nvidia", 2)}
    error = refused(place, tmp_path / "log", container=container)
    code, evidence = explained(error)
    assert code == "K8S001"
    assert "1 Insufficient nvidia.com/gpu" in evidence[0]
    gpus = {"nvidia.com/gpu": "4"}
    test_cluster.patch(f"{NODE}/status", {"status": {"capacity": gpus, "allocatable": gpus}})
    try:
        target = place.target()

        async def run() -> None:
            try:
                what = place.launch("serve()", container=container)
                await target.start(what, tmp_path / "log2", 20, lambda _: None)
            finally:
                await target.stop()

        asyncio.run(run())
    finally:
        gone = {"nvidia.com/gpu": None}
        test_cluster.patch(f"{NODE}/status", {"status": {"capacity": gone, "allocatable": gone}})


def test_a_taint(place: KubernetesPlace, tmp_path: Path) -> None:
    """Of a node beside the real one, where only the scheduler has been."""
    name = f"{place.namespace}-tainted"
    taint = {"key": "reserved", "value": "others", "effect": "NoSchedule"}
    room = {"cpu": "8", "memory": "64Gi", "pods": "10"}
    node = {
        "metadata": {"name": name, "labels": {"tainted": name}},
        "spec": {"taints": [taint]},
        "status": {"capacity": room, "allocatable": room},
    }

    def there(pod: Object) -> None:
        pod["nodeSelector"] = {"tainted": name}

    test_cluster.create("/api/v1/nodes", node)
    try:
        error = refused(place, tmp_path / "log", manifest=changed(there))
    finally:
        test_cluster.delete(f"/api/v1/nodes/{name}")
    assert explained(error)[0] == "K8S002"


def test_more_memory_than_a_node_has(place: KubernetesPlace, tmp_path: Path) -> None:
    def greedy(pod: Object) -> None:
        pod["containers"][0]["resources"] = {"requests": {"memory": "900Gi"}}

    assert explained(refused(place, tmp_path / "log", manifest=changed(greedy)))[0] == "K8S003"


def test_a_node_selector_that_no_node_has(place: KubernetesPlace, tmp_path: Path) -> None:
    def choosy(pod: Object) -> None:
        pod["nodeSelector"] = {"gpu": "h200"}

    assert explained(refused(place, tmp_path / "log", manifest=changed(choosy)))[0] == "K8S004"


def test_a_claim_without_its_storage_class(place: KubernetesPlace, tmp_path: Path) -> None:
    def unbound(launch: Launch, namespace: str) -> list[Object]:
        objects = make_pod(launch, namespace)
        for item in objects:
            if item["kind"] == "PersistentVolumeClaim":
                item["spec"]["storageClassName"] = "no-such-class"
        return objects

    assert explained(refused(place, tmp_path / "log", manifest=unbound))[0] == "K8S005"


def test_a_quota(place: KubernetesPlace, tmp_path: Path) -> None:
    path = make_namespace(place)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    test_cluster.create(f"{path}/resourcequotas", quota)
    time.sleep(1)
    error = refused(place, tmp_path / "log")
    assert error.what == "the cluster does not let the pod in"
    assert explained(error)[0] == "K8S009"


def test_an_admission_rule(place: KubernetesPlace, tmp_path: Path) -> None:
    path = make_namespace(place)
    limits = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "128Mi"}}]},
    }
    test_cluster.create(f"{path}/limitranges", limits)
    assert explained(refused(place, tmp_path / "log"))[0] == "K8S010"


# --- a container that does not live ---------------------------------------------------------


def test_a_missing_image(place: KubernetesPlace, tmp_path: Path) -> None:
    error = refused(place, tmp_path / "log", container={"image": "leadline/no-such-image:1"})
    assert isinstance(error, StartError)
    assert error.cause == "image"
    assert explained(error)[0] == "K8S006"


def test_a_secret_that_is_not_there(place: KubernetesPlace, tmp_path: Path) -> None:
    def needy(pod: Object) -> None:
        reference = {"name": "nowhere", "key": "TOKEN"}
        pod["containers"][0]["env"] = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": reference}}]

    assert explained(refused(place, tmp_path / "log", manifest=changed(needy)))[0] == "K8S013"


def test_a_container_over_its_memory_limit(place: KubernetesPlace, tmp_path: Path) -> None:
    script = "print('loading model', flush=True); x = bytearray(400 * 2**20); serve()"
    error = refused(place, tmp_path / "log", script, container={"memory_bytes": 64 * 2**20})
    assert isinstance(error, StartError)
    assert error.exit_status == "killed by SIGKILL"
    assert explained(error)[0] == "K8S007"


def test_a_probe_that_gives_the_server_up(place: KubernetesPlace, tmp_path: Path) -> None:
    def strict(pod: Object) -> None:
        pod["containers"][0]["startupProbe"] = {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": 1,
            "failureThreshold": 1,
        }

    error = refused(place, tmp_path / "log", "time.sleep(60)", manifest=changed(strict))
    assert isinstance(error, StartError)
    assert error.cause == "exited"
    assert explained(error)[0] == "K8S014"


def test_a_crash_loop_keeps_the_log_of_the_first_end(
    place: KubernetesPlace, tmp_path: Path
) -> None:
    """Seen late, as by ``status``: the container was started anew since."""
    what = place.launch("print('out of luck', flush=True); sys.exit(3)")
    assert what.container
    name = what.container.name

    async def look(cluster: Cluster) -> tuple[tuple[str, ...], bytes]:
        objects = make_pod(what, place.namespace)
        async for _ in apply_all(cluster, place.namespace, objects):
            pass
        seen = watch.PodWatch(cluster, place.namespace, name)
        while not any("CrashLoopBackOff" in line for line in seen.waiting_lines()):
            await asyncio.sleep(0.5)
            await seen.look()
        assert seen.status == "exit code 3"
        assert seen.pod
        log = [piece async for piece in cluster.read_log(seen.pod, "server", previous=True)]
        await remove_all(cluster, objects)
        return seen.waiting_lines(), b"".join(log)

    lines, log = asked(look)
    assert log == b"out of luck\n"
    found = explain(Evidence(start_cause="exited", exit_status="exit code 3", log=lines))
    assert (found.code, found.evidence[0]) == ("K8S015", "the server ended: exit code 3")


def test_a_server_that_dies_under_way(place: KubernetesPlace, tmp_path: Path) -> None:
    script = "import threading; threading.Timer(6, lambda: os._exit(5)).start(); serve()"
    target = place.target()

    async def run() -> str | None:
        try:
            await target.start(place.launch(script), tmp_path / "log", 20, lambda _: None)
            return await target.exited(30)
        finally:
            await target.stop()

    assert asyncio.run(run()) == "exit code 5"


# --- objects --------------------------------------------------------------------------------


def test_a_port_that_is_taken(place: KubernetesPlace, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        error = refused(place, tmp_path / "log", port=holder.getsockname()[1])
    assert isinstance(error, StartError)
    assert error.cause == "port_in_use"


def test_secrets_reach_the_server_and_are_removed_with_it(
    place: KubernetesPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct-horse-battery")
    what = place.launch(
        "print(os.environ['HF_TOKEN'], flush=True); serve()",
        container={
            "secrets": ("HF_TOKEN", "VLLM_API_KEY"),
        },
    )
    target = place.target(Redactor(("correct-horse-battery",)))

    async def run() -> None:
        try:
            await target.start(what, tmp_path / "log", 20, lambda _: None)
            assert "Secret" in left(place)
        finally:
            await target.stop()

    asyncio.run(run())
    assert (tmp_path / "log").read_text().startswith("[redacted]\n")
    assert becomes(lambda: left(place), {"PersistentVolumeClaim"})


def test_somebody_elses_object_of_that_name_is_left_alone(
    place: KubernetesPlace, tmp_path: Path
) -> None:
    path = make_namespace(place)
    what = place.launch("serve()")
    assert what.container
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": what.container.name},
        "spec": {"ports": [{"port": 1}]},
    }
    test_cluster.create(f"{path}/services", theirs)
    error = refused(place, tmp_path / "log", container={"name": what.container.name})
    assert "it is not ours" in error.what
    assert becomes(lambda: left(place), {"Service", "PersistentVolumeClaim"})


def test_a_half_failed_apply_leaves_nothing_but_the_claims(
    place: KubernetesPlace, tmp_path: Path
) -> None:
    def whole(launch: Launch, namespace: str) -> list[Object]:
        return [*make_pod(launch, namespace), unknown(launch, namespace)]

    error = refused(place, tmp_path / "log", manifest=whole)
    assert "the cluster does not know /apis/leaderworkerset.x-k8s.io/v1" in error.what
    assert explained(error)[0] == "K8S012"
    assert becomes(lambda: left(place), {"PersistentVolumeClaim"})


def unknown(launch: Launch, namespace: str) -> Object:
    assert launch.container
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": launch.container.name, "namespace": namespace},
    }


def test_an_older_cluster_gets_the_disruption_budget_in_its_own_version(
    place: KubernetesPlace, tmp_path: Path
) -> None:
    """policy/v1 came with Kubernetes 1.21."""
    target, what = place.target(), place.launch("serve()")
    assert what.container
    path = f"/apis/policy/v1beta1/namespaces/{place.namespace}/poddisruptionbudgets"

    async def run() -> Any:
        try:
            await target.start(what, tmp_path / "log", 20, lambda _: None)
            return test_cluster.read(f"{path}/{what.container.name}")
        finally:
            await target.stop()

    assert asyncio.run(run())["spec"]["maxUnavailable"] == 0
    assert test_cluster.read(path)["items"] == []


def test_two_services_share_a_namespace(place: KubernetesPlace, tmp_path: Path) -> None:
    async def run() -> None:
        targets = [place.target(), place.target()]
        try:
            for number, target in enumerate(targets):
                what = place.launch("serve()")
                endpoint = await target.start(what, tmp_path / f"{number}", 20, lambda _: None)
                with await asyncio.to_thread(urllib.request.urlopen, endpoint.url) as answer:
                    assert answer.status == 200
            cluster = await connect()
            assert len(await find_workloads(cluster, place.namespace)) == 2
            await cluster.close()
            await targets[0].stop()
            assert targets[1].exit_status() is None
        finally:
            for target in targets:
                await target.stop()

    asyncio.run(run())


def test_several_nodes_need_leaderworkerset(place: KubernetesPlace, tmp_path: Path) -> None:
    error = refused(place, tmp_path / "log", manifest=make_group)
    assert "the cluster does not know /apis/leaderworkerset.x-k8s.io/v1" in error.what
    assert "install LeaderWorkerSet" in error.cure
    assert explained(error)[0] == "K8S012"


def test_a_leaderworkerset_is_taken_by_its_definition(place: KubernetesPlace) -> None:
    """The object as rendered; no controller acts on it here."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    test_cluster.create(path, DEFINITION)
    name = "leadline-test-group"
    objects = make_group(place.launch("serve()", container={"name": name}), place.namespace)

    async def apply(cluster: Cluster) -> None:
        async for _ in apply_all(cluster, place.namespace, objects):
            pass
        (found,) = await find_workloads(cluster, place.namespace)
        assert found["kind"] == "LeaderWorkerSet"
        assert found["spec"]["leaderWorkerTemplate"]["size"] == 2
        await remove_all(cluster, objects)
        assert await find_workloads(cluster, place.namespace) == []

    try:
        assert becomes(lambda: bool(test_cluster.read(GROUPS)), True)
        asked(apply)
    finally:
        test_cluster.delete(f"{path}/{DEFINITION['metadata']['name']}")
        assert becomes(lambda: test_cluster.read(GROUPS), None)


def make_group(launch: Launch, namespace: str) -> list[Object]:
    assert launch.container
    container = replace(launch.container, devices=Devices("nvidia", 8, nodes=2))
    service = describe(replace(launch, container=container))
    return [item for item, _ in list_objects(service, namespace)]


GROUPS = "/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets"
# Names and required fields as in LeaderWorkerSet's own definition; templates are left open.
DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "leaderworkersets.leaderworkerset.x-k8s.io"},
    "spec": {
        "group": "leaderworkerset.x-k8s.io",
        "scope": "Namespaced",
        "names": {
            "kind": "LeaderWorkerSet",
            "plural": "leaderworkersets",
            "singular": "leaderworkerset",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["leaderWorkerTemplate"],
                                "properties": {
                                    "replicas": {"type": "integer"},
                                    "leaderWorkerTemplate": {
                                        "type": "object",
                                        "required": ["workerTemplate"],
                                        "properties": {
                                            "size": {"type": "integer"},
                                            "restartPolicy": {
                                                "type": "string",
                                                "enum": [
                                                    "Default",
                                                    "RecreateGroupOnPodRestart",
                                                    "None",
                                                ],
                                            },
                                            "leaderTemplate": OPEN,
                                            "workerTemplate": OPEN,
                                        },
                                    },
                                },
                            }
                        },
                    }
                },
            }
        ],
    },
}

# --- a real engine --------------------------------------------------------------------------


@pytest.mark.engine
def test_a_real_engine_answers_through_the_forwarded_port(
    place: KubernetesPlace, tmp_path: Path
) -> None:
    """Start-up and readiness probes as rendered: it is ready when it lists its model."""
    launched = load_engine("llamacpp").launch
    assert launched
    request = LaunchRequest("smollm2", 8000, {"ctx_size": 1024, "threads": 2}, {})
    engine = launched(request)
    given = place.launch("", container={"memory_bytes": 2 * 2**30})
    assert given.container
    what = replace(
        engine,
        argv=(*engine.argv, "--host", "0.0.0.0"),  # noqa: S104
        port=given.port,
        container=replace(given.container, entrypoint=engine.argv[:1]),
    )
    target = place.target()

    async def run() -> dict[str, Any]:
        try:
            endpoint = await target.start(what, tmp_path / "log", 120, phases.append)
            return await asyncio.to_thread(complete, endpoint)
        finally:
            await target.stop()

    phases: list[str] = []
    answer = asyncio.run(run())
    assert answer["usage"]["completion_tokens"] == 8
    assert phases[0] == "loading the weights"
    assert target.exit_status() is not None


def complete(endpoint: Endpoint) -> dict[str, Any]:
    body = {"model": endpoint.model, "prompt": "In the beginning", "max_tokens": 8}
    request = urllib.request.Request(f"{endpoint.url}/v1/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


# --- a Leadline that is killed --------------------------------------------------------------

KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.deploy.places import KubernetesPlace
place = KubernetesPlace()
place.namespace, name, stage = sys.argv[1:4]
def phase(text):
    if stage == "starting":
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    what = place.launch("print('loading model', flush=True); serve()", container={"name": name})
    await place.target().start(what, Path(sys.argv[4]), 30, phase)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@pytest.mark.parametrize("stage", ["starting", "serving"])
def test_what_a_killed_leadline_left_is_found_and_removed(
    place: KubernetesPlace, tmp_path: Path, stage: str
) -> None:
    name = f"leadline-test-{stage}"
    arguments = (place.namespace, name, stage, str(tmp_path / "log"))
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL

    async def remove(cluster: Cluster) -> None:
        (found,) = await find_workloads(cluster, place.namespace)
        assert found["metadata"]["name"] == name
        what = place.launch("serve()", container={"name": name})
        objects = [*make_pod(what, place.namespace), secret_of(place.namespace, name, {})]
        await remove_all(cluster, objects, claims=True)

    asked(remove)
    assert becomes(lambda: left(place), set())
