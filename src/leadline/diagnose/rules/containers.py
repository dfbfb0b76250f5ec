"""What a Docker engine refuses, kills or restarts; its words begin with ``Docker:``."""

from __future__ import annotations

from collections.abc import Callable

from leadline.diagnose.rule import Evidence, Quote, Rule, always

_DOCKER = "Docker Engine 20.10, answers recorded"


def _says(pattern: str) -> Callable[[Evidence], Quote]:
    return lambda evidence: evidence.log_lines(rf"^Docker: .*({pattern})")[:1]


def _missing_program(evidence: Evidence) -> Quote:
    said = _says("executable file not found|no such file or directory")(evidence)
    return said or evidence.log_lines(r"\] exec .* failed: (No such file|Permission denied)")[:1]


def _missing_library(evidence: Evidence) -> Quote:
    return evidence.log_lines(r"\.so[.\d]*: cannot open shared object file")[:2]


OUT_OF_MEMORY = Rule(
    code="DOCKER001",
    title="The container went over its memory limit",
    cause="oom",
    explanation="The kernel killed the server because its container reached target.memory; the "
    "machine itself may have had memory left.",
    check=_says("OOMKilled"),
    remedy=always("raise target.memory, or leave it out; lower the KV cache or the window"),
    source=f"State.OOMKilled of docker inspect; {_DOCKER}",
)

RULES = (
    OUT_OF_MEMORY,
    Rule(
        code="DOCKER002",
        title="No Docker engine answers, or this user may not talk to it",
        cause="unreachable",
        explanation="Nothing was started.",
        check=_says("no engine answers|Permission denied"),
        remedy=always(
            "start it (systemctl start docker), set DOCKER_HOST to where it listens, or add the "
            "user to the group docker and log in again"
        ),
        source="connect(2) to the engine's socket; docker SDK 7.2",
    ),
    Rule(
        code="DOCKER003",
        title="The image is not there and cannot be pulled",
        cause="image_missing",
        explanation="The name or tag does not exist, the registry wants a login, or there is no "
        "way to it from here.",
        check=_says("cannot be pulled|No such image"),
        remedy=always("check target.image, log in to its registry, or load it with docker load"),
        source=_DOCKER,
    ),
    Rule(
        code="DOCKER004",
        title="Docker has no driver for GPUs",
        cause="no_gpu",
        explanation="The container asks for GPUs and the engine has no runtime that gives them.",
        check=_says("could not select device driver|nvidia-container-cli"),
        remedy=always(
            "install the NVIDIA container toolkit, run nvidia-ctk runtime configure, restart "
            "Docker; leadline doctor checks it"
        ),
        source=_DOCKER,
    ),
    Rule(
        code="DOCKER005",
        title="A device of the container is not on this machine",
        cause="no_device",
        explanation="The plan gives the container devices that do not exist here.",
        check=_says("error gathering device information"),
        remedy=always("check that /dev/neuron* are there (neuron-ls), or give target.devices"),
        source=_DOCKER,
    ),
    Rule(
        code="DOCKER006",
        title="A container of that name is there already",
        cause="name_taken",
        explanation="Leadline replaces only what it started itself for the same purpose.",
        check=_says("is already in use by container"),
        remedy=always("leadline down NAME if it is Leadline's; else rename or remove it yourself"),
        source=_DOCKER,
    ),
    Rule(
        code="DOCKER007",
        title="The image does not hold the program, or a folder to mount is missing",
        cause="program_missing",
        explanation="The container was made, and its first program could not be started.",
        check=_missing_program,
        remedy=always("give target.executable, another image, or correct target.volumes"),
        source=_DOCKER,
    ),
    Rule(
        code="DOCKER008",
        title="The container starts, ends and is started again",
        cause="restart_loop",
        explanation="Its restart policy hides that the server fails each time.",
        check=_says("restarted"),
        remedy=always("read the log from its first error on: leadline logs NAME"),
        source="RestartCount of docker inspect",
    ),
    Rule(
        code="DOCKER010",
        title="A library is missing in the image",
        cause="library_missing",
        explanation="The engine's own code was found, and something it is linked with was not.",
        check=_missing_library,
        remedy=always("install the library in the image, or use the engine's official image"),
        source="the dynamic loader; vLLM 0.32.0 CPU without libnuma.so.1",
    ),
)
RUNTIME_RULES = (OUT_OF_MEMORY,)
"""Also of a server that was ready."""
