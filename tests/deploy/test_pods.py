"""What a pod's record is taken to say; the records are those of a real cluster, cut down."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from leadline.deploy import cluster, pods
from leadline.deploy.cluster import connect
from leadline.errors import DeployError


def pod(name: str = "scout-1", *, server: Any = None, download: Any = None, **status: Any) -> Any:
    """One whose server and download are in these states."""
    for kind, found in (("containerStatuses", server), ("initContainerStatuses", download)):
        if found:
            status[kind] = [{"name": pods.SERVER if kind[0] == "c" else pods.DOWNLOAD, **found}]
    metadata = {"name": name, "creationTimestamp": "2026-11-22T16:00:00Z"}
    return {"metadata": metadata, "status": status}


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code: int, **facts: Any) -> dict[str, Any]:
    return {"state": {"terminated": {"exitCode": code, **facts}}}


def event(reason: str, message: str = "", kind: str = "Normal") -> dict[str, Any]:
    about = {"kind": "Pod", "name": "scout-1"}
    return {"reason": reason, "message": message, "type": kind, "involvedObject": about}


UNPLACED = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}


@pytest.mark.parametrize(
    ("record", "events", "phase"),
    [
        (pod(conditions=[UNPLACED]), [], "waiting for a node: 0/3 nodes are available"),
        (pod(server=waits("ContainerCreating")), [event("Pulling")], "pulling the image"),
        (pod(server=waits("ContainerCreating")), [event("Pulling"), event("Pulled")], None),
        (pod(download={"state": {"running": {}}}), [], "downloading the weights"),
        (pod(server={"state": {"running": {}}}), [event("Pulling")], None),
        (pod(), [], None),
    ],
)
def test_what_a_start_waits_for(record: Any, events: Any, phase: str | None) -> None:
    assert pods.phase_of(record, events) == phase


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (137, "killed by SIGKILL"), (255, "exit code 255")],
)
def test_an_end_is_worded_as_for_every_target(code: int, words: str) -> None:
    end = pods.first_end(pod(server=ended(code)))
    assert end
    assert pods.exit_words(end) == words


def test_an_end_that_the_kubelet_did_not_see_is_none() -> None:
    assert pods.first_end(pod(server=ended(137, reason="ContainerStatusUnknown"))) is None


def test_a_container_that_was_started_anew_has_ended_before() -> None:
    again = {"state": {"running": {}}, "lastState": ended(1)["state"], "restartCount": 1}
    assert pods.first_end(pod(server=again)) == {"exitCode": 1}
    assert pods.first_end(pod(server={"state": {"running": {}}})) is None


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (pod(server=waits("ErrImagePull", "no such")), None),
        (pod(server=waits("ImagePullBackOff", "no such")), ("image", "ImagePullBackOff: no such")),
        (pod(download=waits("InvalidImageName")), ("image", "InvalidImageName")),
        (
            pod(server=waits("CreateContainerConfigError", "no secret")),
            ("refused", "CreateContainerConfigError: no secret"),
        ),
        (
            pod(
                server=waits(
                    "CreateContainerConfigError",
                    "failed to sync secret cache: timed out waiting for the condition",
                )
            ),
            None,
        ),
        (pod(server=waits("CreateContainerError", "context deadline exceeded")), None),
        (pod(download={**ended(1), "restartCount": 0}), None),
        (
            pod(download={**ended(1), "restartCount": 1}),
            ("exited", "the download of the weights ended twice: exit code 1"),
        ),
        (pod(download={**ended(0), "restartCount": 1}), None),
        (pod(), None),
    ],
)
def test_what_waiting_does_not_help(record: Any, found: Any) -> None:
    assert pods.find_hopeless(record) == found


def test_the_pod_that_serves_is_the_leader_and_the_newest() -> None:
    worker, old, leaving, leader = (pod(name) for name in ("worker", "old", "leaving", "leader"))
    index = "leaderworkerset.sigs.k8s.io/worker-index"
    worker["metadata"] |= {"labels": {index: "1"}, "creationTimestamp": "2026-11-22T18:00:00Z"}
    leader["metadata"] |= {"labels": {index: "0"}, "creationTimestamp": "2026-11-22T17:00:00Z"}
    leaving["metadata"] |= {
        "deletionTimestamp": "2026-11-22T18:00:00Z",
        "creationTimestamp": "2026-11-22T17:30:00Z",
    }
    assert pods.pick_server([old, worker, leaving, leader]) is leader
    assert pods.pick_server([worker, leaving]) is None


def test_what_the_cluster_knows_of_an_end_is_told_beside_it() -> None:
    assert pods.end_lines(pod(server=ended(1, reason="Error"))) == ()
    (line,) = pods.end_lines(pod(server=ended(137, reason="OOMKilled")))
    assert line == "kubernetes: container server: OOMKilled: killed by SIGKILL"


def test_warnings_stand_once_and_the_schedulers_are_left_to_its_condition() -> None:
    found = [
        event("Failed", "no\n such image", "Warning"),
        event("Failed", "no such image", "Warning"),
        event("FailedScheduling", "long ago", "Warning"),
        event("Pulled", "there"),
    ]
    assert pods.event_lines(found) == ("kubernetes: Pod scout-1: Failed: no such image",)


def test_a_probe_counts_only_where_it_ended_the_server() -> None:
    failed = event("Unhealthy", "Startup probe failed: 503", "Warning")
    assert pods.kill_lines([failed]) == ()
    killed = event("Killing", "Container server failed startup probe, will be restarted")
    assert len(pods.kill_lines([failed, killed])) == 2
    assert pods.kill_lines([event("Killing", "Stopping container server")]) == ()


# --- reaching a cluster ---------------------------------------------------------------------


def test_within_a_pod_its_own_account_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.aio.config import incluster_config

    (tmp_path / "token").write_text("secret")
    (tmp_path / "namespace").write_text("models\n")
    (tmp_path / "ca.crt").write_text(CERTIFICATE)
    monkeypatch.setattr(cluster, "_ACCOUNT", tmp_path / "token")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    async def look() -> tuple[bool, str, str]:
        found = await connect()
        seen = (found.inside, found.namespace, found.address)
        await found.close()
        return seen

    assert asyncio.run(look()) == (True, "models", "https://10.96.0.1:443")


def test_a_file_that_is_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("apiVersion: v1\nkind: Config\n")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(DeployError) as caught:
        asyncio.run(connect())
    assert "get-contexts" in caught.value.cure


CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUcGJGNfiCDYcQ5hzABe1laWCwbSkwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjIxNzA2MThaGA8yMTI2MTAyOTE3MDYx
OFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIkT
vZZiDDNz9+4VhBKPa4PRDoRWgyay7kxmJK7qmaTnPNji8HS9NU7r7ozcIqy3sg00
O+4fNcpw1VJkxlE801ujUzBRMB0GA1UdDgQWBBSbqRqAspH5Ul/CqnOZn7teAkuy
0TAfBgNVHSMEGDAWgBSbqRqAspH5Ul/CqnOZn7teAkuy0TAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIBRq5rcgqtK1zLHWaoplmhTTjYAMGaZG6A++
9D5QM1iOAiEA4oEC5i3vBZvd/kfSMZDN1nTpu6UwkQGDgIcwmUeJDJk=
-----END CERTIFICATE-----
"""
