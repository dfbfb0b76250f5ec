"""What the plan of the deployment says, where model and hardware are known."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from leadline.errors import PlanError
from leadline.lint.command import UNKNOWN, Command, Given
from leadline.lint.finding import Hit
from leadline.lint.rule import rule
from leadline.plan.schema import Plan
from leadline.units import show_tokens

_WATCHDOG_S = 300
_HEALTH_S = 20


def find_plan(command: Command, version: str) -> Plan | None:
    """None where model, hardware or a fact is missing; see ``leadline plan`` for the reason."""
    if not command.model or not command.hardware:
        return None
    settings = tuple((a.name, _plain(a)) for a in command.arguments if a.value is not UNKNOWN)
    env = tuple((n, str(g.value)) for n, g in command.environment.items() if g.value is not None)
    engine = command.engine
    if command.neuron:
        engine, version = "neuron", command.plugin or version
    return _plan(command.model, command.hardware, f"{engine}=={version}", repr((settings, env)))


def _plain(given: Given) -> object:
    return given.value


@cache
def _plan(model: str, hardware: str, engine: str, options: str) -> Plan | None:
    from ast import literal_eval

    from leadline.plan.deployment import plan_deployment

    try:
        settings, env = literal_eval(options)
    except ValueError:  # a part of a list or a mapping is computed
        return None
    try:
        return plan_deployment(model, hardware, engine, settings=dict(settings), env=dict(env))
    except PlanError:
        return None


@rule("PLN001", "error", "leadline plan")
def does_not_fit(command: Command, version: str) -> Iterator[Hit]:
    """The plan finds something in the way.

    The same finding as of `leadline plan`, with the flag and the direction.
    """
    plan = find_plan(command, version)
    for found in plan.findings if plan else ():
        given = command.given.get(found.flag)
        risk = found.code.startswith("risk") or found is not plan.binding  # type: ignore[union-attr]
        yield Hit(
            f"{found.code}: {found.reason}",
            given.place if given else command.entry or command.place,
            f"{found.direction} {found.flag}: {found.amount}",
            severity="warning" if risk else "error",
        )


@rule("PLN002", "error", "sglang 0.5.6 scheduler: watchdog_timeout 300 s; issues 8232, 3836")
def impatient_watchdog(command: Command, version: str) -> Iterator[Hit]:
    """SGLang's watchdog ends the server during a prefill that the plan expects to take longer."""
    longest = _prefill_s(command, version)
    if command.engine != "sglang" or longest is None:
        return
    given = command.given.get("watchdog_timeout")
    limit = command.number("watchdog_timeout") or _WATCHDOG_S
    if limit < longest:
        yield Hit(
            f"watchdog_timeout {limit} s, the longest prefill may take {longest:.0f} s",
            given.place if given else command.entry or command.place,
            f"--watchdog-timeout {longest * 1.5:.0f}",
        )


@rule(
    "PLN003", "warning", "sglang 0.5.6 http_server: SGLANG_HEALTH_CHECK_TIMEOUT 20 s; issue 22511"
)
def impatient_health(command: Command, version: str) -> Iterator[Hit]:
    """SGLang's own health check gives up during the planned prefill."""
    longest = _prefill_s(command, version)
    if command.engine != "sglang" or longest is None or longest < _HEALTH_S:
        return
    if "SGLANG_HEALTH_CHECK_TIMEOUT" not in command.environment:
        yield Hit(
            f"SGLANG_HEALTH_CHECK_TIMEOUT is {_HEALTH_S} s, the longest prefill {longest:.0f} s",
            command.entry or command.place,
            f"export SGLANG_HEALTH_CHECK_TIMEOUT={longest * 1.5:.0f}",
        )


@rule("PLN004", "error", "sglang issue 22511; Kubernetes: probes and termination")
def impatient_probe(command: Command, version: str) -> Iterator[Hit]:
    """Probe, or grace at the end, shorter than the planned prefill."""
    longest = _prefill_s(command, version)
    container = command.container
    if longest is None or container is None:
        return
    for probe in container.probes:
        if probe.kind == "liveness" and command.engine == "sglang":
            if probe.period_s * probe.failures < longest:
                yield Hit(
                    f"livenessProbe fails after {probe.period_s * probe.failures:.0f} s, the "
                    f"longest prefill takes {longest:.0f} s",
                    probe.place,
                    "raise failureThreshold x periodSeconds above it",
                )
    grace = container.pod.get("spec", {}).get("terminationGracePeriodSeconds")
    if isinstance(grace, int) and grace < longest:
        yield Hit(
            f"terminationGracePeriodSeconds {grace}, the longest prefill takes {longest:.0f} s",
            container.place,
            f"write {longest * 1.5:.0f}",
        )


def _prefill_s(command: Command, version: str) -> float | None:
    """Of the longest prompt, at the plan's slow end."""
    plan = find_plan(command, version)
    return plan.time.prefill_s.high if plan and plan.time else None


@rule("PLN005", "note", "leadline plan")
def planned(command: Command, version: str) -> Iterator[Hit]:
    """How long the longest prompt will take: every client and proxy must wait for it."""
    plan = find_plan(command, version)
    if plan and plan.time:
        yield Hit(
            f"a prompt of {show_tokens(plan.limits.input_tokens)} tokens needs clients and proxies "
            f"that wait {plan.time.timeout_s:.0f} s",
            command.entry or command.place,
            "set every timeout in the chain above it",
        )


RULES = (does_not_fit, impatient_watchdog, impatient_health, impatient_probe, planned)
