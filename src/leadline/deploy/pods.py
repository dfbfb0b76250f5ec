"""What the records of a pod and its events say of the server in it: pure functions."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

from leadline.render.kubernetes import Object

SIGN = "kubernetes: "
"""Begins each line of evidence that comes from the cluster and not from the server."""
SERVER, DOWNLOAD = "server", "download"
DOWNLOADING = "downloading the weights"
_BY_SIGNAL = 128
_UNSEEN = "ContainerStatusUnknown"
_LINES = 8
"""Of one start; a controller that is refused tries again under a new name each time."""
_LEADER = "leaderworkerset.sigs.k8s.io/worker-index"

# The kubelet goes on trying, but only somebody who changes something can help.
_HOPELESS = {
    "ImagePullBackOff": "image",
    "ErrImageNeverPull": "image",
    "InvalidImageName": "image",
    "CreateContainerConfigError": "refused",
    "CreateContainerError": "refused",
}
_PASSING = ("failed to sync", "context deadline exceeded", "is reserved for")
"""In the words of a kubelet or a runtime that has much to do, and that gets there by itself."""
_GROWING = {"TriggeredScaleUp", "Nominated"}
"""Events of autoscalers that will bring a node."""


def pick_server(pods: Iterable[Object]) -> Object | None:
    """The newest pod that serves and is not on its way out; of a group, its leader."""
    serving = [
        pod
        for pod in pods
        if pod["metadata"].get("labels", {}).get(_LEADER, "0") == "0"
        and "deletionTimestamp" not in pod["metadata"]
    ]
    return max(serving, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)


def container_status(pod: Object, name: str = SERVER) -> Object:
    """Empty while the pod has no node."""
    kind = "initContainerStatuses" if name == DOWNLOAD else "containerStatuses"
    statuses = pod.get("status", {}).get(kind, [])
    return next((status for status in statuses if status["name"] == name), {})


def first_end(pod: Object, name: str = SERVER) -> Object | None:
    """How the container ended, the last time if it was started anew since."""
    status = container_status(pod, name)
    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get(
        "terminated"
    )
    # The kubelet writes 137 where it found no container any more: that is no end that it saw.
    return dict(ended) if ended and ended.get("reason") != _UNSEEN else None


def has_begun(pod: Object, name: str = SERVER) -> bool:
    running = "running" in container_status(pod, name).get("state", {})
    return running or first_end(pod, name) is not None


def is_ready(pod: Object) -> bool:
    """Whether its Service sends requests there."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def has_failed(pod: Object) -> bool:
    """Ended as a whole, by the node, whatever its containers did."""
    return bool(pod.get("status", {}).get("phase") == "Failed")


def image_digest(pod: Object) -> str | None:
    """Of what runs, without the runtime's name before it; an image built there has only an id."""
    found = str(container_status(pod).get("imageID") or "")
    return found.rpartition("://")[2] or None


def describe(pod: Object) -> dict[str, Any]:
    """For a journal: where it runs, and of which image."""
    return {
        "image": image_digest(pod),
        "container": pod["metadata"]["name"],
        "namespace": pod["metadata"]["namespace"],
        "node": pod.get("spec", {}).get("nodeName"),
    }


def exit_words(ended: Object) -> str:
    code = int(ended["exitCode"])
    if code <= _BY_SIGNAL:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(code - _BY_SIGNAL).name}"
    except ValueError:  # no such signal: the program's own number
        return f"exit code {code}"


def end_lines(pod: Object) -> tuple[str, ...]:
    """What the cluster knows of an end beyond its status."""
    lines = []
    for name in (DOWNLOAD, SERVER):
        ended = first_end(pod, name)
        if ended and ended.get("reason") not in {None, "Error", "Completed"}:
            words = f"{ended['reason']}: {ended.get('message') or exit_words(ended)}"
            lines.append(f"{SIGN}container {name}: {words}")
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        lines.append(f"{SIGN}pod {status['reason']}: {status.get('message', '')}")
    return tuple(lines)


def kill_lines(events: Iterable[Object]) -> tuple[str, ...]:
    """Of a kubelet that ended a container by itself, and of what it held against it."""
    found = list(events)
    if not any(_is_kill(event) for event in found):
        return ()
    telling = [event for event in found if _is_kill(event) or event.get("reason") == "Unhealthy"]
    return tuple(dict.fromkeys(map(_line, sorted(telling, key=_when))))


def phase_of(pod: Object, events: Iterable[Object]) -> str | None:
    """What a start waits for, where that is worth telling."""
    if message := unplaced(pod):
        return f"waiting for a node: {message}"
    if has_begun(pod):
        return None
    if has_begun(pod, DOWNLOAD) and "terminated" not in container_status(pod, DOWNLOAD)["state"]:
        return DOWNLOADING
    reasons = [event.get("reason") for event in events]
    if reasons.count("Pulling") > reasons.count("Pulled"):
        return "pulling the image"
    return None


def unplaced(pod: Object) -> str | None:
    """Why the scheduler has found no node."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", "unschedulable"))
    return None


def is_growing(events: Iterable[Object]) -> bool:
    return any(event.get("reason") in _GROWING for event in events)


def find_hopeless(pod: Object) -> tuple[str, str] | None:
    """Cause and words of a start that will not come about by waiting."""
    for name in (DOWNLOAD, SERVER):
        waiting = container_status(pod, name).get("state", {}).get("waiting", {})
        message = waiting.get("message", "")
        if any(words in message for words in _PASSING):
            continue
        if cause := _HOPELESS.get(waiting.get("reason", "")):
            return cause, f"{waiting['reason']}: {message}".rstrip(": ")
    ended = first_end(pod, DOWNLOAD)
    if ended and ended["exitCode"] and container_status(pod, DOWNLOAD).get("restartCount"):
        return "exited", f"the download of the weights ended twice: {exit_words(ended)}"
    return None


def waiting_lines(pod: Object) -> tuple[str, ...]:
    """What its containers wait for, and the scheduler."""
    lines = [f"{SIGN}Unschedulable: {message}" for message in [unplaced(pod)] if message]
    for name in (DOWNLOAD, SERVER):
        waiting = container_status(pod, name).get("state", {}).get("waiting", {})
        if "message" in waiting:
            lines.append(f"{SIGN}container {name}: {waiting['reason']}: {waiting['message']}")
    return tuple(lines)


def event_lines(events: Iterable[Object]) -> tuple[str, ...]:
    """Warnings, the last one last; the same words stand once.

    Not the scheduler's: its condition holds the newest word, and its events also older ones.
    """
    warnings = [
        event
        for event in events
        if event.get("type") == "Warning" and event.get("reason") != "FailedScheduling"
    ]
    warnings.sort(key=_when)
    return tuple(dict.fromkeys(map(_line, warnings)))[-_LINES:]


def is_refused(events: Iterable[Object]) -> bool:
    """Whether the pods themselves were not let in: quota, admission, a missing account."""
    return any(event.get("reason") == "FailedCreate" for event in events)


def _is_kill(event: Object) -> bool:
    return event.get("reason") == "Killing" and "probe" in str(event.get("message"))


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _line(event: Object) -> str:
    about: Any = event.get("involvedObject", {})
    words = " ".join(str(event.get("message", "")).split())
    return f"{SIGN}{about.get('kind')} {about.get('name')}: {event.get('reason')}: {words}"
