"""What a Docker engine says no to, with the cure; the engine's own words stay at hand."""

from __future__ import annotations

from typing import Any, NamedTuple

from leadline.deploy.ports import word_holder
from leadline.deploy.target import StartError
from leadline.launch import Launch
from leadline.render.docker import require_container

SIGN = "Docker: "
"""Begins what the engine says, among the lines of a server's log."""


class _Refusal(NamedTuple):
    sign: str
    what: str
    cure: str


def refuse(what: str, said: str, *, where: str, cure: str) -> StartError:
    """An error before any server ran; ``said`` is the engine's own message."""
    error = StartError(what, cause="refused", log_tail=(f"{SIGN}{said}",))
    error.where, error.cure = where, cure
    return error


def explain_refusal(error: Any, launch: Launch) -> StartError:
    """From the engine's answer to a container that it does not make or start."""
    text = " ".join(str(error.explanation or error).split())
    container = require_container(launch)
    if "port is already allocated" in text or "address already in use" in text:
        return StartError(
            f"port {launch.port} of 127.0.0.1 cannot be used",
            cause="port_in_use",
            log_tail=(f"{SIGN}{text}", *word_holder(launch.port)),
        )
    for sign, what, cure in _REFUSALS:
        if sign in text:
            return refuse(what, text, where=container.name, cure=cure)
    return refuse(
        f"Docker refused the container: {text}", text, where=container.name, cure="see its message"
    )


_REFUSALS = (
    _Refusal(
        "could not select device driver",
        "Docker has no driver for GPUs",
        "install the NVIDIA container toolkit and restart Docker (nvidia-ctk runtime configure)",
    ),
    _Refusal(
        "error gathering device information",
        "a device of the container is not on this machine",
        "check that /dev/neuron* are there (neuron-ls), or plan fewer devices",
    ),
    _Refusal(
        "is already in use by container",
        "a container of that name is there, and it is not ours",
        "rename it, or remove it yourself",
    ),
    _Refusal(
        "executable file not found",
        "the image does not hold the program",
        "give target.executable, or another image",
    ),
    _Refusal(
        "no such file or directory",
        "the image does not hold the program, or a folder to mount is missing",
        "give target.executable, or correct target.volumes",
    ),
)
