"""One pod of ours as the cluster records it: where it stands, and how its server ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing

from leadline.deploy import pods
from leadline.deploy.chronicle import Chronicle
from leadline.deploy.cluster import Cluster
from leadline.deploy.target import OnPhase
from leadline.errors import DeployError
from leadline.render.kubernetes import NAME_LABEL, Object

PLACE_S = 600.0
"""For a node, the image and the download, where nobody says more."""
REFUSED_S = 10.0
"""A namespace that was just made has no service account yet: its first pods are refused."""
UNPLACED_S = 120.0
"""Without a node, and with no autoscaler at work, waiting any longer is of no use."""
GONE = "deleted"
"""The exit status of a server whose pod went away without a word of its end."""
_POLL_S = 0.5


class UnplacedError(DeployError):
    """The server's container will not begin; carries the cause as ``StartError`` names it."""

    def __init__(self, what: str, cause: str) -> None:
        super().__init__(what)
        self.cause = cause


class PodWatch:
    """Polls; each look is one request."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str, chronicle: Chronicle | None = None
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._chronicle = chronicle
        self.claims: frozenset[str] = frozenset()
        """Their events tell why a pod waits, too."""
        self._known: Mapping[str, int] = {}
        self._events: list[Object] = []
        self.pod: Object | None = None
        self.status: str | None = None
        """How the server ended the first time; it may have been started anew since."""

    async def forget_events(self) -> None:
        """Those that are there by now tell of earlier starts."""
        found = await self._cluster.find("Event", self._namespace)
        self._known = {event["metadata"]["uid"]: _count(event) for event in found}

    async def wait_begun(self, on_phase: OnPhase, limit_s: float = PLACE_S) -> Object:
        """Until the server's container runs, or has run. Raises ``UnplacedError``."""
        begun_s = time.monotonic()
        told = ""
        while True:
            await self.look()
            if self.pod and pods.has_begun(self.pod):
                return self.pod
            await self.look_at_events()
            self._give_up(time.monotonic() - begun_s, limit_s)
            phase = pods.phase_of(self.pod or {}, self._events)
            if phase and phase != told:
                told = phase
                on_phase(phase)
            await asyncio.sleep(_POLL_S)

    async def look(self) -> None:
        """Remembers the newest record of the pod."""
        if self.pod is None:
            selector = f"{NAME_LABEL}={self._name}"
            found = await self._cluster.find("Pod", self._namespace, selector)
            if pod := pods.pick_server(found):
                self._note(pod)
        elif now := await self._cluster.read(self.pod):
            self._note(now)
        else:
            self.status = self.status or GONE

    async def wait_end(self) -> None:
        """Until the server has ended; no change is missed, for a record goes away soon after."""
        if self.pod is None or self.status:
            return
        async with aclosing(self._cluster.follow(self.pod)) as changes:
            async for pod in changes:
                if pod["metadata"].get("uid"):  # a watch that is cut off ends with a status
                    self._note(pod)
                if self.status:
                    return
        while not self.status:
            await self.look()
            await asyncio.sleep(_POLL_S)

    async def look_at_events(self) -> None:
        found = await self._cluster.find("Event", self._namespace)
        self._events = [event for event in found if self._is_new(event)]
        if self._chronicle:
            self._chronicle.note_events(self._events)

    def end_lines(self) -> tuple[str, ...]:
        ended = pods.end_lines(self.pod) if self.pod else ()
        return (*ended, *pods.kill_lines(self._events))

    def waiting_lines(self) -> tuple[str, ...]:
        return (*pods.waiting_lines(self.pod or {}), *pods.event_lines(self._events))

    def _note(self, pod: Object) -> None:
        """The newest record of the same pod, not of one that has taken its name."""
        if self.pod and self.pod["metadata"]["uid"] != pod["metadata"]["uid"]:
            self.status = self.status or GONE
            return
        self.pod = pod
        if self._chronicle:
            self._chronicle.note_pod(pod)
        if not self.status and (ended := pods.first_end(pod)):
            self.status = pods.exit_words(ended)
        if not self.status and pods.has_failed(pod):
            self.status = GONE

    def _give_up(self, waited_s: float, limit_s: float) -> None:
        pod = self.pod or {}
        if found := pods.find_hopeless(pod):
            raise UnplacedError(found[1], found[0])
        if not pod and waited_s > REFUSED_S and pods.is_refused(self._events):
            raise UnplacedError("the cluster does not let the pod in", "refused")
        message = pods.unplaced(pod)
        if message and waited_s > UNPLACED_S and not pods.is_growing(self._events):
            raise UnplacedError(f"no node takes the pod: {message}", "unplaced")
        if waited_s > limit_s:
            raise UnplacedError(f"the pod did not begin within {limit_s:g} s", "timeout")

    def _is_new(self, event: Object) -> bool:
        about = str(event["involvedObject"].get("name"))
        ours = about == self._name or about.startswith(f"{self._name}-") or about in self.claims
        return ours and _count(event) > self._known.get(event["metadata"]["uid"], 0)


def _count(event: Object) -> int:
    return int(event.get("count") or 1)
