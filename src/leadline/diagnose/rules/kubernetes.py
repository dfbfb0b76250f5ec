"""What a cluster says of a pod that does not start, or that it has ended.

Its lines begin with ``kubernetes:``, so that no rule takes an engine's words for the cluster's.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from leadline.diagnose.rule import Evidence, Quote, Rule, always

_RECORDED = "recorded from Kubernetes 1.20.2"
_EVENTS = "Kubernetes: kubelet and scheduler, events and pod conditions"
_DEVICE = r"Insufficient (nvidia\.com/gpu|aws\.amazon\.com/neuron\w*)"


def _says(pattern: str) -> Callable[[Evidence], Quote]:
    return lambda evidence: evidence.log_lines(rf"^kubernetes: .*({pattern})")


def _fit_devices(evidence: Evidence) -> str:
    found = re.search(_DEVICE, " ".join(evidence.log))
    name = found[1] if found else "devices"
    return (
        f"lower tensor_parallel_size, or free {name} or add a node with more of them: one pod "
        "takes all its devices from one node (kubectl describe nodes shows what is taken; a node "
        "without any lacks the device plugin)"
    )


def _fit_host(evidence: Evidence) -> str:
    found = re.search(r"Insufficient ([\w-]+)", " ".join(evidence.log))
    name = found[1] if found else "resources"
    return f"free {name} on a node or take a larger one, or lower what the plan asks of the host"


def _crash_loop(evidence: Evidence) -> Quote:
    quote = _says(r"CrashLoopBackOff|BackOff: Back-off restarting")(evidence)
    if quote and evidence.exit_status:
        return (f"the server ended: {evidence.exit_status}", *quote)
    return quote


_GONE = (
    Rule(
        code="K8S007",
        title="The container went over its memory limit",
        cause="oom",
        explanation="The kernel killed the server: host memory, not the device's. What lies in "
        "/dev/shm counts against the same limit.",
        check=_says("OOMKilled"),
        remedy=always(
            "raise the container's memory limit (it is the plan's host memory), or lower what is "
            "kept in host memory: swap space, CPU offload, the number of ranks per node"
        ),
        source=f"{_EVENTS}; {_RECORDED}",
    ),
    Rule(
        code="K8S008",
        title="The node evicted the pod",
        cause="evicted",
        explanation="The node ran short of memory or disk and ended pods to save itself.",
        check=_says(r"pod Evicted|Evicted: "),
        remedy=always(
            "free the resource that the line names on that node, or choose a node with more; for "
            "ephemeral-storage: keep weights and caches on claims"
        ),
        source=_EVENTS,
    ),
)

RULES = (
    Rule(
        code="K8S001",
        title="No node has enough free devices",
        cause="unschedulable",
        explanation="The scheduler found no node with as many free devices as the pod asks for.",
        check=_says(_DEVICE),
        remedy=_fit_devices,
        source=f"kube-scheduler, NodeResourcesFit; {_RECORDED}",
    ),
    Rule(
        code="K8S002",
        title="The nodes are tainted",
        cause="unschedulable",
        explanation="Nodes that would do are reserved by a taint that the pod does not tolerate.",
        check=_says(r"had (untolerated )?taints? "),
        remedy=always(
            "add the taint under target.tolerations, or take it from the node: "
            "kubectl taint nodes NODE KEY-"
        ),
        source=f"kube-scheduler, TaintToleration; {_RECORDED}",
    ),
    Rule(
        code="K8S003",
        title="No node has enough free CPU, memory or disk",
        cause="unschedulable",
        explanation="The scheduler found no node with as much of the host free as the pod asks.",
        check=_says(r"Insufficient (cpu|memory|ephemeral-storage)"),
        remedy=_fit_host,
        source=f"kube-scheduler, NodeResourcesFit; {_RECORDED}",
    ),
    Rule(
        code="K8S004",
        title="No node matches the node selector",
        cause="unschedulable",
        explanation="No node carries the labels that target.node_selector asks for.",
        check=_says(r"didn't match (Pod's )?node (affinity|selector)"),
        remedy=always("correct target.node_selector: kubectl get nodes --show-labels"),
        source=f"kube-scheduler, NodeAffinity; {_RECORDED}",
    ),
    Rule(
        code="K8S005",
        title="A volume claim is not bound",
        cause="storage",
        explanation="The claim that is to keep weights or compiled code has no volume.",
        check=_says(
            r"unbound immediate PersistentVolumeClaims|ProvisioningFailed|FailedBinding|"
            r"no storage class is set|FailedMount|FailedAttachVolume"
        ),
        remedy=always(
            "give target.storage_class (kubectl get storageclass shows what there is), or see "
            "kubectl describe pvc; ReadWriteMany, for several nodes, needs a class that offers it"
        ),
        source=f"Kubernetes: volume binder; {_RECORDED}",
    ),
    Rule(
        code="K8S006",
        title="The image cannot be pulled",
        cause="image",
        explanation="The node asked the registry for the image and did not get it.",
        check=_says(r"ImagePullBackOff|ErrImagePull|ErrImageNeverPull|InvalidImageName"),
        remedy=always(
            "correct target.image and its tag; for a private registry attach a pull secret to the "
            "service account (kubectl patch serviceaccount); see that the nodes reach the registry"
        ),
        source=f"{_EVENTS}; {_RECORDED}",
    ),
    *_GONE,
    Rule(
        code="K8S009",
        title="The namespace's quota is used up",
        cause="quota",
        explanation="A ResourceQuota of the namespace does not let the pod or a claim in.",
        check=_says("exceeded quota"),
        remedy=always(
            "ask for a larger quota, remove what else uses it (kubectl describe quota), or lower "
            "what the plan asks for"
        ),
        source=f"Kubernetes: ResourceQuota admission; {_RECORDED}",
    ),
    Rule(
        code="K8S010",
        title="A policy of the cluster does not admit the pod",
        cause="policy",
        explanation="An admission check refused the object by a rule that the line names.",
        check=_says(
            r"admission webhook|violates PodSecurity|pod security policy|"
            r"ValidatingAdmissionPolicy|maximum .* usage per (Container|Pod)"
        ),
        remedy=always(
            "satisfy the rule that the line names, or ask whoever keeps it for an exception"
        ),
        source=f"Kubernetes: admission control; {_RECORDED}",
    ),
    Rule(
        code="K8S011",
        title="This user may not do that in the cluster",
        cause="permission",
        explanation="Role-based access control does not grant what Leadline needs to deploy.",
        check=_says(r'cannot \w+ resource "'),
        remedy=always(
            "ask for a role that grants the verb and resource of the line in that namespace, or "
            "choose another namespace or context"
        ),
        source=f"Kubernetes: RBAC; {_RECORDED}",
    ),
    Rule(
        code="K8S012",
        title="The cluster does not know a kind of object",
        cause="unsupported",
        explanation="An extension is not installed, or the cluster is older than the object.",
        check=_says("the cluster does not know"),
        remedy=always(
            "for leaderworkerset.x-k8s.io install LeaderWorkerSet, or plan within one node; for "
            "policy/v1 use Kubernetes 1.21 or newer"
        ),
        source=f"Kubernetes: API groups; {_RECORDED}",
    ),
    Rule(
        code="K8S013",
        title="The container cannot be made",
        cause="configuration",
        explanation="A Secret, a ConfigMap or a key that the container names is not there, or the "
        "container runtime refused it.",
        check=_says("CreateContainerConfigError|CreateContainerError|ContainerCannotRun"),
        remedy=always("create what the line names, or correct the image's program"),
        source=f"{_EVENTS}; {_RECORDED}",
    ),
)

# After the engine's own words, which tell more.
LAST_RULES = (
    Rule(
        code="K8S014",
        title="A probe gave the server up",
        cause="probe",
        explanation="The kubelet asked /health, got no good answer often enough, and ended it.",
        check=_says(r"failed (startup|liveness) probe|Unhealthy: (Startup|Liveness) probe failed"),
        remedy=always(
            "if the log shows progress, raise the startupProbe's failureThreshold (it is twice "
            "the predicted start); if it shows none, look for the line where it stopped"
        ),
        source=f"{_EVENTS}; {_RECORDED}",
    ),
    Rule(
        code="K8S015",
        title="The container ends again and again",
        cause="crash_loop",
        explanation="Each start ended the same way, and the kubelet waits longer before the next.",
        check=_crash_loop,
        remedy=always("read the log of the first end: the cause stands in its last lines"),
        source=f"{_EVENTS}; {_RECORDED}",
    ),
)

END_RULES = _GONE
"""Those that also explain the end of a server that was ready."""
