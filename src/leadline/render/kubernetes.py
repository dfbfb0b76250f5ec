"""A service in Kubernetes: claims, Deployment or LeaderWorkerSet, Service, disruption budget."""

from __future__ import annotations

import json
from math import ceil
from typing import Any

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.launch import Volume
from leadline.render.service import DRAIN_S, PORT, Service
from leadline.render.yaml import Comments, Path
from leadline.units import GIB, MIB

Object = dict[str, Any]
MANAGER = "leadline"
NAME_LABEL = "app.kubernetes.io/instance"
MANAGER_LABEL = "app.kubernetes.io/managed-by"
ENGINE_LABEL = "app.kubernetes.io/name"
_PERIOD_S = 10
_LIVENESS = {"periodSeconds": 30, "timeoutSeconds": 30, "failureThreshold": 10}
_POD_IP = {"name": "VLLM_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
"""Where the other nodes find this one."""
_GROUP_API = "leaderworkerset.x-k8s.io/v1"


def list_objects(service: Service, namespace: str) -> list[tuple[Object, Comments]]:
    """Everything but the Secret, which is made from the env-file and never written out."""
    several = service.devices.nodes > 1
    return [
        *(_claim(service, namespace, cache.name) for cache in service.caches),
        _group(service, namespace) if several else _deployment(service, namespace),
        _service(service, namespace),
        _budget(service, namespace),
    ]


def secret_name(name: str) -> str:
    """Of the service of that name."""
    return f"{name}-secrets"


def ready_program(service: Service) -> str:
    """Exits with 0 if the server lists its model: it may be healthy before it does."""
    return (
        "import json, os, sys, urllib.request as r\n"
        f"ask = r.Request('http://127.0.0.1:{PORT}/v1/models')\n"
        "if key := os.environ.get('VLLM_API_KEY'):\n"
        "    ask.add_header('Authorization', 'Bearer ' + key)\n"
        "models = json.load(r.urlopen(ask, timeout=10))['data']\n"
        f"sys.exit({json.dumps(service.served_model)} not in [model['id'] for model in models])\n"
    )


def _claim(service: Service, namespace: str, name: str) -> tuple[Object, Comments]:
    cache = next(cache for cache in service.caches if cache.name == name)
    several = service.devices.nodes > 1
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"{service.kept_name}-{name}",
            "namespace": namespace,
            "labels": {**_labels(service), NAME_LABEL: service.kept_name},
        },
        "spec": {
            "accessModes": ["ReadWriteMany" if several else "ReadWriteOnce"],
            "resources": {"requests": {"storage": _quantity(cache.size_bytes)}},
            **_given(storageClassName=service.cluster.storage_class),
        },
    }
    return claim, {("spec", "resources"): f"{cache.why[0].upper()}{cache.why[1:]}."}


def _deployment(service: Service, namespace: str) -> tuple[Object, Comments]:
    template = _pod_template(service, service.arguments, serving=True)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(service, namespace),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "progressDeadlineSeconds": service.start_limit_s + service.place_limit_s,
            "selector": {"matchLabels": _selector(service)},
            "template": template,
        },
    }
    comments: Comments = {
        ("spec", "strategy"): "A second pod beside the first would wait for the same devices.",
        ("spec", "progressDeadlineSeconds"): (
            "The start-up limit, and before it ten minutes for the image and a slow download."
        ),
    }
    return deployment, comments | _pod_comments(service, ("spec", "template", "spec"))


def _group(service: Service, namespace: str) -> tuple[Object, Comments]:
    """One model over several nodes: a leader that serves, and workers that follow it."""
    leader = _pod_template(service, _node_arguments(service, "leader"), serving=True)
    worker = _pod_template(service, _node_arguments(service, "worker"), serving=False)
    group = {
        "apiVersion": _GROUP_API,
        "kind": "LeaderWorkerSet",
        "metadata": _metadata(service, namespace),
        "spec": {
            "replicas": 1,
            "leaderWorkerTemplate": {
                "size": service.devices.nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": leader,
                "workerTemplate": worker,
            },
        },
    }
    at: Path = ("spec", "leaderWorkerTemplate")
    comments: Comments = {
        (*at, "restartPolicy"): "Ranks cannot rejoin: if one pod ends, all start anew."
    }
    return group, comments | _pod_comments(service, (*at, "leaderTemplate", "spec"))


def _node_arguments(service: Service, role: str) -> tuple[str, ...]:
    """``PlanError`` for an engine or a release that cannot span nodes by itself."""
    facts = read_table("containers")["nodes"].get(service.engine)
    if facts is None or _release(service.version) < _release(facts["since"]):
        raise PlanError(
            f"{service.engine} {service.version} cannot span {service.devices.nodes} nodes alone",
            where="hardware",
            cure="plan it within one node"
            + (f", or use {service.engine} {facts['since']} or newer" if facts else ""),
        )
    extra = [word.format(nodes=service.devices.nodes) for word in facts[role]]
    return (*service.arguments, *extra)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def _pod_template(service: Service, arguments: tuple[str, ...], *, serving: bool) -> Object:
    return {
        "metadata": {"labels": _labels(service)},
        "spec": {
            "terminationGracePeriodSeconds": service.grace_s,
            "automountServiceAccountToken": False,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            **_placement(service),
            **_given(initContainers=[_download(service)] if service.caches else []),
            "containers": [_server(service, arguments, serving=serving)],
            "volumes": _volumes(service),
        },
    }


def _placement(service: Service) -> Object:
    """The plan's devices are on tainted nodes in most clusters; the rest is the target's."""
    resource = _resource(service)
    own = [{"key": resource, "operator": "Exists", "effect": "NoSchedule"}] if resource else []
    asked = [item.model_dump(exclude_none=True) for item in service.cluster.tolerations]
    return _given(
        nodeSelector=dict(service.cluster.node_selector),
        serviceAccountName=service.cluster.service_account,
        tolerations=own + asked,
    )


def _given(**fields: Any) -> Object:
    """Without those that nobody has set."""
    return {name: value for name, value in fields.items() if value}


def _download(service: Service) -> Object:
    """The weights, before the start-up probe's time begins."""
    return {
        "name": "download",
        "image": service.image,
        **_pull(service),
        "command": ["hf", "download", service.model],
        "env": [
            {"name": "HF_HOME", "value": service.env["HF_HOME"]},
            _secret_variable(service, "HF_TOKEN"),
        ],
        "securityContext": {"allowPrivilegeEscalation": False},
        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "8Gi"}},
        "volumeMounts": [_mount(service, "weights")],
    }


def _server(service: Service, arguments: tuple[str, ...], *, serving: bool) -> Object:
    return {
        "name": "server",
        "image": service.image,
        **_pull(service),
        "command": list(service.program),
        "args": list(arguments),
        "env": [
            *({"name": name, "value": value} for name, value in service.env.items()),
            *(_secret_variable(service, name) for name in service.secrets),
            *([_POD_IP] if service.devices.nodes > 1 else []),
        ],
        **_given(envFrom=_file_variables(service)),
        "securityContext": {"allowPrivilegeEscalation": False},
        "resources": _resources(service),
        "volumeMounts": [
            *(_mount(service, cache.name) for cache in service.caches),
            *(
                {"name": f"own-{number}", "mountPath": volume.path, "readOnly": volume.read_only}
                for number, volume in enumerate(service.volumes)
            ),
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - that is its name
        ],
        **(_serving(service) if serving else {}),
    }


def _pull(service: Service) -> Object:
    """Of ``missing`` nothing is written: the cluster pulls what it lacks, and ``latest`` always."""
    policy = {"always": "Always", "never": "Never"}.get(service.pull)
    return _given(imagePullPolicy=policy)


def _resources(service: Service) -> Object:
    resource = _resource(service)
    devices = {resource: str(service.devices.per_node)} if resource else {}
    limit = service.memory_bytes or service.host_bytes
    memory = {"memory": _quantity(limit)} if limit else {}
    cpu = {"cpu": str(2 + 2 * service.devices.per_node)} if service.start else {}
    return _given(requests={**cpu, **memory, **devices}, limits={**memory, **devices})


def _serving(service: Service) -> Object:
    health = {"httpGet": {"path": "/health", "port": "http"}}
    listed = {"exec": {"command": ["python3", "-c", ready_program(service)]}}
    return {
        "ports": [{"name": "http", "protocol": "TCP", "containerPort": PORT}],
        "startupProbe": {
            **health,
            "periodSeconds": _PERIOD_S,
            "timeoutSeconds": _PERIOD_S,
            "failureThreshold": ceil(service.start_limit_s / _PERIOD_S),
        },
        # Of an image that nobody planned with it is not known whether it has Python.
        "readinessProbe": {
            **(listed if service.start else health),
            "periodSeconds": _PERIOD_S,
            "timeoutSeconds": 15,
        },
        "livenessProbe": {**health, **_LIVENESS},
        **_given(lifecycle=_drain(service)),
    }


def _drain(service: Service) -> Object:
    command = ["sleep", str(service.drain_s)]
    return {"preStop": {"exec": {"command": command}}} if service.drain_s else {}


def _volumes(service: Service) -> list[Object]:
    return [
        *(
            {
                "name": cache.name,
                "persistentVolumeClaim": {"claimName": f"{service.kept_name}-{cache.name}"},
            }
            for cache in service.caches
        ),
        *(
            {"name": f"own-{number}", **_source(volume)}
            for number, volume in enumerate(service.volumes)
        ),
        {
            "name": "shm",
            "emptyDir": {"medium": "Memory", "sizeLimit": _quantity(service.shm_bytes)},
        },
    ]


def _source(volume: Volume) -> Object:
    """A folder of the node, or a claim that is there."""
    if volume.source.startswith("/"):
        return {"hostPath": {"path": volume.source}}
    return {"persistentVolumeClaim": {"claimName": volume.source}}


def _service(service: Service, namespace: str) -> tuple[Object, Comments]:
    selector = _selector(service)
    if service.devices.nodes > 1:
        selector = {
            "leaderworkerset.sigs.k8s.io/name": service.name,
            "leaderworkerset.sigs.k8s.io/worker-index": "0",
        }
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(service, namespace),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http"}],
        },
    }
    megabytes = ceil(service.input_tokens * 8 / 1e6)
    text = (
        f"A proxy before it must wait {ceil(service.request_s)} s for an answer and take bodies of "
        f"{megabytes} MB."
    )
    return body, {("spec", "type"): text}


def _budget(service: Service, namespace: str) -> tuple[Object, Comments]:
    body = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(service, namespace),
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": _selector(service)}},
    }
    text = "A drain waits until somebody takes this service away: a start costs minutes."
    return body, {("spec", "maxUnavailable"): text}


def _secret_variable(service: Service, name: str) -> Object:
    reference = {"name": secret_name(service.name), "key": name, "optional": True}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def _file_variables(service: Service) -> list[Object]:
    """All that the deployment's own file of secrets holds."""
    reference = {"name": secret_name(service.name), "optional": True}
    return [{"secretRef": reference}] if service.env_file else []


def _mount(service: Service, name: str) -> Object:
    path = next(cache.path for cache in service.caches if cache.name == name)
    return {"name": name, "mountPath": path}


def _resource(service: Service) -> str | None:
    tables = {"nvidia": "nvidia", "neuron": "neuron-device"}
    name = tables.get(service.devices.kind)
    return str(read_table("containers")[name]["resource"]) if name else None


def _metadata(service: Service, namespace: str) -> Object:
    return {"name": service.name, "namespace": namespace, "labels": _labels(service)}


def _selector(service: Service) -> dict[str, str]:
    return {NAME_LABEL: service.name}


def _labels(service: Service) -> dict[str, str]:
    return {
        ENGINE_LABEL: service.engine,
        **_selector(service),
        MANAGER_LABEL: MANAGER,
    }


def _quantity(size_bytes: int) -> str:
    whole, rest = divmod(size_bytes, GIB)
    return f"{ceil(size_bytes / MIB)}Mi" if rest else f"{whole}Gi"


def _pod_comments(service: Service, at: Path) -> Comments:
    server: Path = (*at, "containers", 0)
    return {
        (*at, "terminationGracePeriodSeconds"): (
            f"The longest request may take {ceil(service.request_s)} s by the plan, and {DRAIN_S} "
            "s to leave the load balancer."
        ),
        (*at, "initContainers"): "Downloads count against no probe.",
        (*server, "image"): "Pin it by digest once it is pulled.",
        (*server, "resources"): (
            "Memory: server and ranks (assumed), the plan's host buffers, and /dev/shm, which "
            "counts against the limit."
        ),
        (*server, "startupProbe"): (
            f"Predicted start: {service.start.expected:.0f} s "
            f"({service.start.low:.0f} to {service.start.high:.0f}); twice the slowest is allowed, "
            "and never less than 20 minutes."
            if service.start
            else "No plan says how long a start takes."
        ),
        (*server, "readinessProbe"): "Healthy is not enough: the model must be listed.",
        (*server, "livenessProbe"): (
            "Generates nothing and is patient: a long prefill is not a dead server."
        ),
    }
