"""A Kubernetes API server as kubectl would reach it, asked in plain objects."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from leadline.errors import DeployError
from leadline.render.kubernetes import MANAGER, Object

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient, Configuration

Query = Mapping[str, str]

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_APPLY = "application/apply-patch+yaml"
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT = 401, 403, 404, 409
_ASK_S = 30
_CLOSE_S = 0.1
"""TLS connections end a moment after their session, says aiohttp."""
_ENDLESS = aiohttp.ClientTimeout(total=None, sock_connect=_ASK_S)


class RefusedError(DeployError):
    """The API server said no."""

    def __init__(self, message: str, *, status: int, where: str, cure: str) -> None:
        super().__init__(message, where=where, cure=cure)
        self.status = status


class Cluster:
    """One connection; ``connect`` makes it."""

    def __init__(self, context: str | None, configuration: Configuration) -> None:
        from kubernetes.aio.client import ApiClient
        from kubernetes.aio.stream import WsApiClient

        self._context = context
        self._configuration = configuration
        self._client: ApiClient = ApiClient(configuration)
        self._streams: ApiClient = WsApiClient(configuration)
        self._versions: dict[str, str] = {}
        self.namespace = "default"
        """The context's, where nobody names another."""
        self.inside = False
        """Whether we run in a pod of this very cluster."""

    @property
    def address(self) -> str:
        return str(self._configuration.host)

    async def close(self) -> None:
        await self._client.close()
        await self._streams.close()
        await asyncio.sleep(_CLOSE_S)

    async def apply(self, item: Object) -> Object:
        """Server-side: the object becomes as it is given, where nobody else has set a field."""
        query = {"fieldManager": MANAGER}
        item = await self._suit(item)
        return await self._ask("PATCH", locate(item), query=query, body=item, kind=_APPLY)

    async def read(self, item: Object) -> Object | None:
        try:
            return await self._ask("GET", locate(await self._suit(item)))
        except RefusedError as refused:
            if refused.status == _NOT_FOUND:
                return None
            raise

    async def find(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """Objects of the namespace, by their labels."""
        version = await self._version(_VERSIONS[kind])
        folder = f"{_root(version)}/namespaces/{namespace}/{_PLURALS[kind]}"
        found = await self._ask("GET", folder, query={"labelSelector": selector})
        return [{"apiVersion": version, "kind": kind, **item} for item in found["items"]]

    async def delete(self, item: Object) -> None:
        """With all that the object made; one that is gone already is no error."""
        try:
            where = locate(await self._suit(item))
            await self._ask("DELETE", where, query={"propagationPolicy": "Background"})
        except RefusedError as refused:
            if refused.status != _NOT_FOUND:
                raise

    async def may(self, verb: str, kind: str, namespace: str) -> bool:
        """Whether this user may do that, by the cluster's own word."""
        group, _, _ = _VERSIONS[kind].rpartition("/")
        wish = {"verb": verb, "resource": _PLURALS[kind], "group": group, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wish},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self._ask("POST", path, body=review)
        return bool(answer["status"]["allowed"])

    async def knows(self, path: str) -> bool:
        """Whether there is such an API: ``/apis/GROUP/VERSION``."""
        try:
            await self._ask("GET", path)
        except RefusedError as refused:
            return refused.status != _NOT_FOUND
        return True

    async def nodes(self) -> list[Object]:
        return list((await self._ask("GET", "/api/v1/nodes"))["items"])

    async def read_log(
        self,
        pod: Object,
        container: str,
        *,
        previous: bool = False,
        follow: bool = False,
        lines: int = 0,
    ) -> AsyncGenerator[bytes]:
        """Pieces of the log as they come, the last ``lines`` of it or all.

        With ``follow`` until the container ends.
        """
        query = {
            "container": container,
            "follow": str(follow).lower(),
            "previous": str(previous).lower(),
            **({"tailLines": str(lines)} if lines else {}),
        }
        async with self._send("GET", f"{locate(pod)}/log", query=query) as response:
            async for piece in response.content.iter_any():
                yield piece

    async def follow(self, pod: Object) -> AsyncGenerator[Object]:
        """Every change of the pod since this record of it, until it is gone."""
        metadata = pod["metadata"]
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={metadata['name']}",
            "resourceVersion": metadata["resourceVersion"],
        }
        folder = locate(pod).rpartition("/")[0]
        async with self._send("GET", folder, query=query) as response:
            while line := await response.content.readline():
                change = json.loads(line)
                yield {"apiVersion": "v1", "kind": "Pod", **change["object"]}
                if change["type"] in {"DELETED", "ERROR"}:
                    return

    async def forward(
        self, pod: Object, port: int
    ) -> AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
        """A socket to a port of the pod; see ``forward.py`` for what it carries."""
        query = [("ports", str(port))]
        method, url, headers, _, _ = await self._client.param_serialize(
            "GET", f"{locate(pod)}/portforward", query_params=query, auth_settings=["BearerToken"]
        )
        opened: AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]
        opened = await self._streams.request(method, url, headers=headers, _preload_content=False)
        return opened

    async def _suit(self, item: Object) -> Object:
        return {**item, "apiVersion": await self._version(item["apiVersion"])}

    async def _version(self, wanted: str) -> str:
        """An older one that says the same, where the cluster does not know the one wanted."""
        if wanted in _OLDER and wanted not in self._versions:
            known = await self.knows(f"/apis/{wanted}")
            self._versions[wanted] = wanted if known else _OLDER[wanted]
        return self._versions.get(wanted, wanted)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Object | None = None,
        kind: str = "application/json",
    ) -> Object:
        async with self._send(method, path, query=query, body=body, kind=kind) as response:
            answer: Object = await response.json()
            return answer

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Object | None = None,
        kind: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        for fresh in (False, True):
            if fresh:  # tokens of cloud providers live for minutes
                await _load(self._configuration, self._context)
            async with self._request(method, path, query or {}, body, kind) as response:
                if response.status == _UNAUTHORIZED and not fresh:
                    continue
                if not response.ok:
                    raise _refusal(response.status, await response.text(), path, self.address)
                yield response
                return

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, query: Query, body: Object | None, kind: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        serialized = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "*/*", "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
        )
        endless = "true" in {query.get("follow"), query.get("watch")}
        timeout = _ENDLESS if endless else aiohttp.ClientTimeout(total=_ASK_S)
        try:
            answer = await self._client.call_api(*serialized, _request_timeout=timeout)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise _unreachable(self.address, error) from error
        async with answer.response as response:
            yield response


async def connect(context: str | None = None) -> Cluster:
    """The cluster that kubectl would use: by KUBECONFIG, ~/.kube/config or the pod's account.

    ``DeployError`` where none is configured, or the client is not installed.
    """
    try:
        from kubernetes.aio.client import Configuration
    except ImportError as error:
        raise DeployError(
            "the client for Kubernetes is not installed",
            where="target",
            cure="pip install 'leadline[kubernetes]'",
        ) from error
    configuration = Configuration()
    namespace, inside = await _load(configuration, context)
    cluster = Cluster(context, configuration)
    cluster.namespace, cluster.inside = namespace, inside
    return cluster


def locate(item: Object) -> str:
    """The path of an object at the API server."""
    root, name = _root(item["apiVersion"]), item["metadata"]["name"]
    if item["kind"] == "Namespace":
        return f"{root}/namespaces/{name}"
    return f"{root}/namespaces/{item['metadata']['namespace']}/{_PLURALS[item['kind']]}/{name}"


_VERSIONS = {
    "Pod": "v1",
    "Event": "v1",
    "Secret": "v1",
    "Service": "v1",
    "PersistentVolumeClaim": "v1",
    "Deployment": "apps/v1",
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
}
_OLDER = {"policy/v1": "policy/v1beta1"}
"""Since 1.21 and until 1.24: for what we write, one and the same."""
_PLURALS = {kind: f"{kind.lower()}s" for kind in _VERSIONS}


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


async def _load(configuration: Configuration, context: str | None) -> tuple[str, bool]:
    """Address and credentials into the configuration; its namespace, and whether we are inside."""
    from kubernetes.aio import config

    files = _config_files()
    if not files:
        if context or not (namespace := _own_namespace()):
            raise _no_config()
        config.load_incluster_config(configuration)
        return namespace, True
    try:
        await config.load_kube_config(files, context, configuration, persist_config=False)
        contexts, active = config.list_kube_config_contexts(files)
    except config.ConfigException as error:
        raise _bad_config(files, context, error) from error
    used = next((c for c in contexts if c["name"] == context), active)
    return str(used["context"].get("namespace") or "default"), False


def _config_files() -> str:
    """As kubectl reads them: a list where KUBECONFIG holds several; empty where none is there."""
    named = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
    files = [Path(name).expanduser() for name in named.split(os.pathsep) if name]
    return os.pathsep.join(str(file) for file in files if file.exists())


def _own_namespace() -> str | None:
    """Of the pod that we run in."""
    file = _ACCOUNT.with_name("namespace")
    return file.read_text().strip() if _ACCOUNT.exists() else None


def _no_config() -> DeployError:
    return DeployError(
        "no cluster is configured",
        where=os.environ.get("KUBECONFIG") or "~/.kube/config",
        cure="set KUBECONFIG to a kubeconfig file, or make one with your provider's command",
    )


def _bad_config(files: str, context: str | None, error: Exception) -> DeployError:
    told = f"the context {context} is not there" if context else str(error)
    return DeployError(told, where=files, cure="kubectl config get-contexts shows what there is")


def _unreachable(address: str, error: Exception) -> DeployError:
    return DeployError(
        f"no cluster answers: {error or type(error).__name__}",
        where=address,
        cure="see that the cluster runs and that this machine reaches it (VPN?): kubectl get nodes",
    )


def _refusal(status: int, text: str, path: str, address: str) -> RefusedError:
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = text.strip()
    if status == _NOT_FOUND and message in _NO_SUCH_KIND:
        message = f"the cluster does not know {path.partition('/namespaces/')[0]}"
    where = f"{address}{path}"
    return RefusedError(message, status=status, where=where, cure=_cure(status, message))


# The first for an unknown group, the second for an unknown version or kind of a known one.
_NO_SUCH_KIND = ("404 page not found", "the server could not find the requested resource")


def _cure(status: int, message: str) -> str:
    if status == _UNAUTHORIZED:
        return "log in again: the cluster does not accept these credentials"
    for sign, cure in _CURES:
        if sign in message:
            return cure
    if status == _CONFLICT:
        return "somebody else has changed the object: take their change back, or remove it"
    if status == _FORBIDDEN:
        return "ask for that right, or use another namespace or context"
    return "see the message; `leadline render --as kubernetes` shows the objects"


_CURES = (
    ("exceeded quota", "ask for a larger quota, or plan fewer devices and less memory"),
    ("admission webhook", "satisfy the policy that the message names, or have it exempt this"),
    ("leaderworkerset", "install LeaderWorkerSet in the cluster, or plan within one node"),
)
