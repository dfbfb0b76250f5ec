"""A real Kubernetes of one node, of the tests' own, while a command runs:

    python -m tests.cluster.cluster around bash

API server, controllers, scheduler and kubelet are the programs that ``build.sh`` compiled; its
pods are containers of the tests' own Docker engine. There is no kube-proxy and no DNS: what is
tested reaches pods by port-forward.
"""

from __future__ import annotations

import fcntl
import http.client
import io
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import docker
from tests.containers.daemon import is_installed, make_image, start_daemon

HERE = Path(__file__).parent
PROGRAMS = Path(os.environ.get("LEADLINE_TEST_KUBERNETES", "/var/cache/leadline/kubernetes-1.20"))
STATE = Path(os.environ.get("LEADLINE_TEST_CLUSTER", "/var/lib/leadline-test-cluster"))
KUBECONFIG = STATE / "admin.kubeconfig"
GUEST = STATE / "guest.kubeconfig"
"""Of a user who may do nothing."""
NODE = "node1"
PAUSE = "leadline-test-pause:1"
_ADDRESS = "172.17.0.1"
"""Of Docker's bridge: the API server asks the kubelet there, pods would ask the API server."""
_API, _CONTROLLERS, _SCHEDULER, _KUBELET, _HEALTH, _ETCD, _PEER = range(16443, 16450)
_started: list[subprocess.Popen[bytes]] = []
_VOLUMES = "/tmp/hostpath_pv"
"""Where the host-path provisioner puts its folders, and nothing else does."""
_UP_S = 120


def is_built() -> bool:
    """Whether the programs are there and this machine may run them."""
    needed = ("etcd", "socat", "openssl")
    return (PROGRAMS / "built").exists() and is_installed() and all(map(shutil.which, needed))


def is_up() -> bool:
    return (STATE / "kubelet.pid").exists() and _answers("/readyz")


def up() -> Path:
    """The kubeconfig of a cluster that is ready; started unless it runs already."""
    engine = start_daemon()
    with _alone():
        return KUBECONFIG if is_up() else _start(engine)


def _start(engine: str) -> Path:
    down()
    _load_images(engine)
    (STATE / "log").mkdir(parents=True)
    _share_mounts()
    _make_keys()
    _write_files(engine)
    _start_control_plane()
    _run("kubelet", *_kubelet_flags(engine), within=_own_kernel_settings())
    _wait("the node is ready", _node_ready)
    create("/apis/storage.k8s.io/v1/storageclasses", _STORAGE)
    return KUBECONFIG


@contextmanager
def _alone() -> Iterator[None]:
    """Tests may run in several processes."""
    with STATE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def around(command: list[str]) -> int:
    """The exit code of a command; however it ends, nothing of the cluster is left."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # A shell's background job ignores it, and so would all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if is_built():
            os.environ["KUBECONFIG"] = str(up())
        return subprocess.run(command, check=False).returncode
    finally:
        down()


def down() -> None:
    """Ends what ``up`` started, and nothing else."""
    pids = [int(file.read_text()) for file in STATE.glob("*.pid")]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # nothing of it is to be kept
    for pid in pids:
        _wait("a program ends", lambda pid=pid: not _lives(pid))
    for process in _started:
        process.wait()
    _started.clear()
    if pids:
        _remove_pods()
        shutil.rmtree(_VOLUMES, ignore_errors=True)
    _unmount()
    shutil.rmtree(STATE, ignore_errors=True)


# What a kubelet wants of its machine, and sets if it finds something else. It runs where files of
# ours lie over these: the machine keeps its own settings, whoever is killed when. With memory
# overcommitted an engine that asks for too much would not be refused, but killed later.
_KERNEL = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
    "net/bridge/bridge-nf-call-iptables": 1,
}


def _own_kernel_settings() -> tuple[str, ...]:
    """The words before a command that let it see, and set, files of ours as the kernel's."""
    steps = ["set -e", "mount --make-private /proc"]
    for name, value in _KERNEL.items():
        file, real = STATE / "kernel" / name.replace("/", "."), Path("/proc/sys", name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{value}\n")
        if real.exists():
            steps.append(f"mount --bind {file} {real}")
    steps.append('exec "$@"')
    shell = ("/bin/sh", "-c", "\n".join(steps), "sh")
    return ("/usr/bin/unshare", "--mount", "--propagation", "unchanged", *shell)


def _share_mounts() -> None:
    """What the kubelet mounts for a pod, the Docker engine must see."""
    subprocess.run(["/bin/mount", "--bind", STATE, STATE], check=True)
    subprocess.run(["/bin/mount", "--make-shared", STATE], check=True)


def create(path: str, item: object) -> None:
    _ask(path, item).close()


def patch(path: str, change: object) -> None:
    _ask(path, change, "PATCH").close()


def read(path: str) -> Any:
    """``None`` for what is not there."""
    try:
        with _ask(path) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return None
        raise


def delete(path: str) -> None:
    """One that is not there is no error."""
    with suppress(urllib.error.HTTPError):
        _ask(path, method="DELETE").close()


def _lives(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return Path(f"/proc/{pid}").exists()


def _remove_pods() -> None:
    client = docker.DockerClient(base_url=start_daemon())
    label = "io.kubernetes.pod.namespace"
    for container in client.containers.list(all=True, filters={"label": label}):
        with suppress(docker.errors.NotFound):
            container.remove(force=True)
    client.close()


def _unmount() -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    ours = (mount for mount in mounts if f"{mount}/".startswith(f"{STATE}/"))
    for mount in sorted(ours, reverse=True):
        subprocess.run(["/bin/umount", mount], check=False)


def _load_images(engine: str) -> None:
    client = docker.DockerClient(base_url=engine)
    make_image(client)
    if PAUSE not in {tag for image in client.images.list() for tag in image.tags}:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.add(PROGRAMS / "pause", "pause")
        name, _, tag = PAUSE.partition(":")
        client.api.import_image_from_data(
            out.getvalue(), repository=name, tag=tag, changes=['ENTRYPOINT ["/pause"]']
        )
    client.close()


# --- keys and files -------------------------------------------------------------------------


def _make_keys() -> None:
    """One authority; certificates of the server, of an administrator, a guest and the node."""
    (STATE / "pki").mkdir()
    _openssl("req -x509 -newkey rsa:2048 -nodes -days 30 -keyout ca.key -out ca.crt", "/CN=ca")
    names = f"subjectAltName=IP:127.0.0.1,IP:{_ADDRESS},IP:10.96.0.1,DNS:localhost"
    both = "extendedKeyUsage=clientAuth,serverAuth"
    _certify("apiserver", "/CN=kube-apiserver", f"{names}\n{both}")
    _certify("admin", "/O=system:masters/CN=admin", both)
    _certify("guest", "/CN=guest", both)
    _certify("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", f"{names}\n{both}")
    _openssl("genrsa -out accounts.key 2048")
    _openssl("rsa -in accounts.key -pubout -out accounts.pub")


def _certify(name: str, subject: str, extensions: str) -> None:
    (STATE / "pki" / f"{name}.ext").write_text(extensions)
    _openssl(f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr", subject)
    _openssl(
        f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30"
        f" -extfile {name}.ext -out {name}.crt"
    )


def _openssl(arguments: str, subject: str = "") -> None:
    words = [*arguments.split(), *(("-subj", subject) if subject else ())]
    subprocess.run(["/usr/bin/openssl", *words], cwd=STATE / "pki", check=True, capture_output=True)


def _write_files(engine: str) -> None:
    for name in ("admin", "guest", "kubelet"):
        (STATE / f"{name}.kubeconfig").write_text(_kubeconfig(name))
    (STATE / "kubelet.json").write_text(json.dumps(_kubelet_settings()))


def _kubeconfig(name: str) -> str:
    """JSON is YAML."""
    pki = STATE / "pki"
    cluster = {
        "server": f"https://127.0.0.1:{_API}",
        "certificate-authority": f"{pki}/ca.crt",
    }
    user = {"client-certificate": f"{pki}/{name}.crt", "client-key": f"{pki}/{name}.key"}
    context = {"cluster": "test", "user": name}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "leadline-test", "context": context}],
            "current-context": "leadline-test",
        }
    )


def _kubelet_settings() -> dict[str, object]:
    pki = STATE / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": _ADDRESS,
        "port": _KUBELET,
        "healthzPort": _HEALTH,
        "readOnlyPort": 0,
        "tlsCertFile": f"{pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet.key",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "hairpinMode": "none",
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "1s",
        "featureGates": {"SizeMemoryBackedVolumes": True},
    }


_STORAGE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "standard",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "kubernetes.io/host-path",
    "reclaimPolicy": "Delete",
}


# --- programs -------------------------------------------------------------------------------


def _start_control_plane() -> None:
    etcd = f"http://127.0.0.1:{_ETCD}"
    _run(
        "etcd",
        f"--data-dir={STATE}/etcd",
        "--unsafe-no-fsync",
        f"--listen-client-urls={etcd}",
        f"--advertise-client-urls={etcd}",
        f"--listen-peer-urls=http://127.0.0.1:{_PEER}",
        "--log-level=warn",
    )
    _run("kube-apiserver", f"--etcd-servers={etcd}", *_api_flags())
    _wait("the API server answers", lambda: _answers("/readyz"))
    _run(
        "kube-controller-manager",
        *_controller_flags(),
        f"--secure-port={_CONTROLLERS}",
    )
    _run("kube-scheduler", *_COMMON, f"--secure-port={_SCHEDULER}")


_COMMON = (
    f"--kubeconfig={KUBECONFIG}",
    "--leader-elect=false",
    "--bind-address=127.0.0.1",
    "--port=0",
)


def _api_flags() -> tuple[str, ...]:
    pki = STATE / "pki"
    return (
        "--bind-address=127.0.0.1",
        f"--advertise-address={_ADDRESS}",
        f"--secure-port={_API}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--service-account-key-file={pki}/accounts.pub",
        f"--service-account-signing-key-file={pki}/accounts.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--kubelet-client-certificate={pki}/admin.crt",
        f"--kubelet-client-key={pki}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",
    )


def _controller_flags() -> tuple[str, ...]:
    """The host-path provisioner makes a folder for each claim."""
    pki = STATE / "pki"
    return (
        *_COMMON,
        f"--service-account-private-key-file={pki}/accounts.key",
        f"--root-ca-file={pki}/ca.crt",
        "--use-service-account-credentials=true",
        "--enable-hostpath-provisioner=true",
        "--pvclaimbinder-sync-period=1s",
    )


def _kubelet_flags(engine: str) -> tuple[str, ...]:
    return (
        f"--config={STATE}/kubelet.json",
        f"--kubeconfig={STATE}/kubelet.kubeconfig",
        f"--root-dir={STATE}/kubelet",
        "--container-runtime=docker",
        f"--docker-endpoint={engine}",
        f"--pod-infra-container-image={PAUSE}",
        f"--hostname-override={NODE}",
        f"--node-ip={_ADDRESS}",
        "--network-plugin=",
        f"--cert-dir={STATE}/pki/kubelet",
        f"--volume-plugin-dir={STATE}/plugins",
        f"--seccomp-profile-root={STATE}/seccomp",
    )


def _run(name: str, *flags: str, within: tuple[str, ...] = ()) -> None:
    program = shutil.which(name) if name == "etcd" else str(PROGRAMS / name)
    with (STATE / "log" / name).open("w") as log:
        process = subprocess.Popen(
            [*within, str(program), *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=STATE,
        )
    (STATE / f"{name}.pid").write_text(str(process.pid))
    _started.append(process)  # one that is forgotten while it runs is warned of


def _node_ready() -> bool:
    """And the account exists that every pod of the default namespace runs under."""
    if not _answers("/api/v1/namespaces/default/serviceaccounts/default"):
        return False
    with suppress(urllib.error.HTTPError, TypeError):
        conditions = read(f"/api/v1/nodes/{NODE}")["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return False


def _wait(what: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _UP_S
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {_UP_S} s: {what}; see {STATE / 'log'}")
        time.sleep(0.1)


def _answers(path: str) -> bool:
    try:
        with _ask(path) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _ask(path: str, body: object = None, method: str | None = None) -> http.client.HTTPResponse:
    pki = STATE / "pki"
    trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    trust.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"https://127.0.0.1:{_API}{path}", data, method=method)
    kind = "merge-patch+json" if method == "PATCH" else "json"
    request.add_header("Content-Type", f"application/{kind}")
    return urllib.request.urlopen(request, context=trust, timeout=5)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["around"]:
        sys.exit(around(arguments[1:]))
    if arguments != ["down"]:
        sys.exit("usage: python -m tests.cluster.cluster around COMMAND | down")
    down()  # what a killed suite left


if __name__ == "__main__":
    main(sys.argv[1:])
