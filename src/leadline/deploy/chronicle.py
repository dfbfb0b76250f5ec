"""What a cluster says of a pod, kept beside the server's log: each event and each state once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from leadline.deploy.log import Redact
from leadline.render.kubernetes import Object

NAME = "kubernetes.jsonl"
_STATUS = (
    "phase",
    "reason",
    "message",
    "conditions",
    "initContainerStatuses",
    "containerStatuses",
)


class Chronicle:
    """Lines of JSON: ``{"event": …}`` as the cluster gives them, and ``{"pod": …}``."""

    def __init__(self, log: Path, redact: Redact) -> None:
        self._path = log.with_name(NAME) if log.suffix == ".log" else None
        self._redact = redact
        self._told: set[str] = set()

    def note_events(self, events: Iterable[Object]) -> None:
        for event in events:
            fields = ("type", "reason", "message", "count", "firstTimestamp", "lastTimestamp")
            about = f"{event['involvedObject'].get('kind')} {event['involvedObject'].get('name')}"
            told = {name: event[name] for name in fields if event.get(name) is not None}
            self._tell({"event": {"about": about, **told}})

    def note_pod(self, pod: Object) -> None:
        status = pod.get("status", {})
        told = {name: status[name] for name in _STATUS if name in status}
        place = {"name": pod["metadata"]["name"], "node": pod.get("spec", {}).get("nodeName")}
        self._tell({"pod": {**place, **told}})

    def _tell(self, told: Object) -> None:
        line = self._redact(json.dumps(told, ensure_ascii=False))
        if self._path is None or line in self._told:
            return
        self._told.add(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
