"""What Docker or Kubernetes knows of a server that somebody runs: state, end, log. Reads only."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from leadline.deploy.containers import connect
from leadline.deploy.pods import SIGN
from leadline.errors import DeployError
from leadline.units import show_bytes

LOG_LINES = 100_000
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Inspected:
    source: str
    log: str
    running: bool
    exit_status: str | None = None
    oom_killed: bool = False
    memory_limit: str = ""
    restarts: int = 0


def inspect_container(name: str) -> Inspected:
    """``DeployError`` where Docker does not answer or has no such container."""
    from docker.errors import APIError, NotFound

    client = connect()
    try:
        container = client.containers.get(name)
        log = container.logs(tail=LOG_LINES).decode(errors="replace")
    except NotFound as error:
        raise DeployError(
            "no such container",
            where=f"docker:{name}",
            cure="`docker ps --all` lists them; one that was removed has taken its log with it",
        ) from error
    except APIError as error:
        raise DeployError(str(error.explanation), where=f"docker:{name}") from error
    finally:
        client.close()
    return _read_container(name, container.attrs, log)


def inspect_pod(name: str, namespace: str = "") -> Inspected:
    """By kubectl, with the rights and the context that it has.

    The log of an earlier start, where there was one, stands before that of the present one.
    """
    place = ["--namespace", namespace] if namespace else []
    pod = json.loads(_kubectl("get", "pod", name, "--output", "json", *place))
    statuses = pod.get("status", {}).get("containerStatuses", [])
    restarts = sum(int(status.get("restartCount", 0)) for status in statuses)
    logs = "".join(_read_logs(name, status, place) for status in statuses)
    return _read_pod(name, statuses, logs, restarts)


def _read_logs(pod: str, status: dict[str, Any], place: list[str]) -> str:
    """Of one container: asked for all at once, one that never began would hide the others."""
    container = ["--container", status["name"]] if "name" in status else []
    logs = ["logs", pod, *container, f"--tail={LOG_LINES}", *place]
    previous = _kubectl(*logs, "--previous", optional=True) if status.get("restartCount") else ""
    return previous + _kubectl(*logs, optional=True)


def _read_container(name: str, attributes: dict[str, Any], log: str) -> Inspected:
    state = attributes["State"]
    limit = attributes.get("HostConfig", {}).get("Memory", 0)
    running = bool(state.get("Running"))
    said = state.get("Error") or ""
    return Inspected(
        source=f"docker:{name}",
        log=f"{log}\n{said}" if said else log,
        running=running,
        exit_status=None if running else f"exit code {state.get('ExitCode')}",
        oom_killed=bool(state.get("OOMKilled")),
        memory_limit=show_bytes(limit) if limit else "",
        restarts=int(attributes.get("RestartCount", 0)),
    )


def _read_pod(name: str, statuses: list[dict[str, Any]], log: str, restarts: int) -> Inspected:
    """Of several containers, the one that ended worst."""
    ended = [
        state["terminated"]
        for status in statuses
        for state in (status.get("state", {}), status.get("lastState", {}))
        if "terminated" in state
    ]
    worst = max(ended, key=lambda item: int(item.get("exitCode", 0)), default=None)
    waiting = [
        f"{SIGN}{status['state']['waiting'].get('reason')}: "
        f"{status['state']['waiting'].get('message')}"
        for status in statuses
        if "waiting" in status.get("state", {})
    ]
    return Inspected(
        source=f"pod:{name}",
        log="\n".join([log, *waiting]),
        running=any("running" in status.get("state", {}) for status in statuses),
        exit_status=f"exit code {worst['exitCode']}" if worst else None,
        oom_killed=any(item.get("reason") == "OOMKilled" for item in ended),
        restarts=restarts,
    )


def _kubectl(*arguments: str, optional: bool = False) -> str:
    program = shutil.which("kubectl")
    if program is None:
        raise DeployError(
            "kubectl is not installed here",
            where="explain pod:",
            cure="install it, or hand over the log: kubectl logs POD | leadline explain -",
        )
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeployError(
            f"kubectl did not answer within {_TIMEOUT_S} s",
            where=" ".join(arguments),
            cure="check the context: kubectl config current-context",
        ) from error
    if done.returncode and not optional:
        raise DeployError(
            _last_line(done.stderr) or f"kubectl ended with {done.returncode}",
            where="kubectl " + " ".join(arguments),
            cure="check name, namespace (pod:NAME@NAMESPACE) and context",
        )
    return done.stdout if not done.returncode else ""


def _last_line(text: str) -> str:
    """Kubectl repeats its troubles, and says at last what they come to."""
    return text.strip().rpartition("\n")[2]
