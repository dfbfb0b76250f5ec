"""What Kubernetes 1.20.2 said of each failure, as the kubernetes target tells it.

All but ``EVICTED``, whose words are from the kubelet's source: no eviction was provoked.
"""

from __future__ import annotations

from leadline.diagnose.rule import Evidence

GUEST = (
    'kubernetes: refused (403): events is forbidden: User "guest" cannot list resource "events" in '
    'API group "" in the namespace "models"'
)
NO_GPU = "kubernetes: Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
TAINT = (
    "kubernetes: Unschedulable: 0/1 nodes are available: 1 node(s) had taint {reserved: others}, "
    "that the pod didn't tolerate."
)
NO_MEMORY = "kubernetes: Unschedulable: 0/1 nodes are available: 1 Insufficient memory."
NO_MATCH = (
    "kubernetes: Unschedulable: 0/1 nodes are available: 1 node(s) didn't match Pod's node "
    "affinity."
)
UNBOUND = (
    (
        "kubernetes: Unschedulable: 0/1 nodes are available: 1 pod has unbound immediate "
        "PersistentVolumeClaims."
    ),
    (
        "kubernetes: PersistentVolumeClaim scout-weights: ProvisioningFailed: "
        'storageclass.storage.k8s.io "no-such-class" not found'
    ),
)
NO_IMAGE = (
    'kubernetes: container server: ImagePullBackOff: Back-off pulling image "leadline/no-such:1"'
)
QUOTA = (
    "kubernetes: ReplicaSet scout-b7d697cdf: FailedCreate: Error creating: pods "
    '"scout-b7d697cdf-q85p8" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, '
    "limited: pods=0"
)
LIMIT = (
    "kubernetes: ReplicaSet scout-f8984fc57: FailedCreate: Error creating: pods "
    '"scout-f8984fc57-v2fbn" is forbidden: maximum memory usage per Container is 128Mi, but limit '
    "is 512Mi"
)
NO_SECRET = 'kubernetes: container server: CreateContainerConfigError: secret "nowhere" not found'
OOM = "kubernetes: container server: OOMKilled: killed by SIGKILL"
EVICTED = 'kubernetes: pod Evicted: Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". '
OLD = "kubernetes: refused (404): the cluster does not know /apis/policy/v1"
PROBE = (
    (
        "kubernetes: Pod scout-6844f6574c-bxfq4: Unhealthy: Startup probe failed: Get "
        '"http://172.17.0.4:8000/health": dial tcp 172.17.0.4:8000: connect: connection refused'
    ),
    (
        "kubernetes: Pod scout-6844f6574c-bxfq4: Killing: Container server failed startup probe, "
        "will be restarted"
    ),
)
LOOP = (
    "kubernetes: container server: CrashLoopBackOff: back-off 10s restarting failed "
    "container=server pod=scout-7b777fbcfc-q42gh_models(926ee2fd-26ef-43e0-98a6-2f010528cca7)"
)


def _waited(cause: str, *log: str) -> Evidence:
    return Evidence(start_cause=cause, log=log)


CASES = [
    ("K8S001", "unschedulable", _waited("unplaced", NO_GPU)),
    ("K8S002", "unschedulable", _waited("unplaced", TAINT)),
    ("K8S003", "unschedulable", _waited("unplaced", NO_MEMORY)),
    ("K8S004", "unschedulable", _waited("unplaced", NO_MATCH)),
    ("K8S005", "storage", _waited("unplaced", *UNBOUND)),
    ("K8S006", "image", _waited("image", NO_IMAGE)),
    ("K8S007", "oom", Evidence("exited", "killed by SIGKILL", ("loading model", OOM))),
    ("K8S008", "evicted", Evidence("exited", "killed by SIGKILL", (EVICTED,))),
    ("K8S009", "quota", _waited("refused", QUOTA)),
    ("K8S010", "policy", _waited("refused", LIMIT)),
    ("K8S011", "permission", _waited("refused", GUEST)),
    ("K8S012", "unsupported", _waited("refused", OLD)),
    ("K8S013", "configuration", _waited("refused", NO_SECRET)),
    ("K8S014", "probe", Evidence("exited", "killed by SIGTERM", PROBE)),
    ("K8S015", "crash_loop", Evidence("exited", "exit code 3", (LOOP,))),
]
