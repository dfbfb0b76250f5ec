"""What the state of a container or pod tells beside its log."""

from __future__ import annotations

import re

from leadline.diagnose.rule import Evidence, Quote, Rule, always

_BY_SIGNAL = 128


def _out_of_memory(evidence: Evidence) -> Quote:
    if not evidence.oom_killed:
        return ()
    limit = f", memory limit {evidence.memory_limit}" if evidence.memory_limit else ""
    return (f"state: OOMKilled, {evidence.exit_status or 'running'}{limit}",)


def _killed(evidence: Evidence) -> Quote:
    """Only where we did not start it: there the exit status is all that is known."""
    if evidence.start_cause or evidence.failure or evidence.oom_killed:
        return ()
    return _signalled(evidence, "SIGKILL", 9)


def _crashed(evidence: Evidence) -> Quote:
    if evidence.start_cause or evidence.failure:
        return ()
    return next(
        (
            found
            for name, number in (("SIGSEGV", 11), ("SIGABRT", 6), ("SIGBUS", 7), ("SIGILL", 4))
            if (found := _signalled(evidence, name, number))
        ),
        (),
    )


def _signalled(evidence: Evidence, name: str, number: int) -> Quote:
    status = evidence.exit_status or ""
    code = re.fullmatch(r"exit code (\d+)", status)
    if status == f"killed by {name}" or (code and int(code[1]) == _BY_SIGNAL + number):
        return (f"state: {status} ({name})",)
    return ()


RULES = (
    Rule(
        code="CON010",
        title="The container went over its memory limit",
        cause="oom",
        explanation="The kernel killed it: host memory, not the device's. Weights pass through it "
        "when they are loaded, and a memory-backed /dev/shm counts.",
        check=_out_of_memory,
        remedy=always(
            "raise the container's memory limit above what loading takes (the weights of all "
            "ranks, at worst) plus the size of /dev/shm, or load with fewer workers"
        ),
        source="cgroup memory controller; Docker and Kubernetes report OOMKilled",
    ),
    Rule(
        code="CON011",
        title="The container was killed from outside",
        cause="killed",
        explanation="SIGKILL leaves no word in the log: a stop that was not heeded in time, a "
        "probe, an eviction, a person, or the host's out-of-memory killer.",
        check=_killed,
        remedy=always(
            "docker events or kubectl describe pod says who; dmesg on the host has 'Out of memory' "
            "if it was the kernel"
        ),
        source="128 + 9 = 137; signal(7)",
    ),
    Rule(
        code="CON012",
        title="The process crashed in native code",
        cause="crashed",
        explanation="A signal of its own making: a fault in a kernel, a driver or a library.",
        check=_crashed,
        remedy=always(
            "SIGBUS: raise the size of /dev/shm; SIGILL: a build for this processor; else the last "
            "lines name the library: its versions as the engine pins them, and enforce_eager as a "
            "trial"
        ),
        source="128 + the signal's number; signal(7)",
    ),
)
