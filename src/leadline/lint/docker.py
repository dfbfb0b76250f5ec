"""``docker run`` lines: the container's options, its image, and the words that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leadline.lint.command import Container, Given, Place, Word
from leadline.lint.words import join_places, parse_value

_SWITCHES = frozenset(
    [
        "detach",
        "interactive",
        "tty",
        "rm",
        "init",
        "privileged",
        "read-only",
        "no-healthcheck",
        "oom-kill-disable",
        "publish-all",
        "sig-proxy",
        "disable-content-trust",
        "quiet",
        "help",
    ]
)
_SHORT = {
    "d": "detach", "i": "interactive", "t": "tty", "P": "publish-all", "q": "quiet",
    "e": "env", "v": "volume", "p": "publish", "m": "memory", "u": "user", "w": "workdir",
    "l": "label", "h": "hostname", "c": "cpu-shares", "a": "attach",
}  # fmt: skip
OPTIONS = _SWITCHES | frozenset(
    [
        "env",
        "env-file",
        "volume",
        "mount",
        "publish",
        "memory",
        "user",
        "workdir",
        "label",
        "hostname",
        "gpus",
        "device",
        "name",
        "ipc",
        "shm-size",
        "ulimit",
        "network",
        "net",
        "restart",
        "runtime",
        "entrypoint",
        "cap-add",
        "cap-drop",
        "security-opt",
        "cpus",
        "cpuset-cpus",
        "log-driver",
        "log-opt",
        "pid",
        "platform",
        "pull",
        "tmpfs",
        "add-host",
        "group-add",
        "memory-swap",
        "health-cmd",
        "health-interval",
        "health-timeout",
        "health-retries",
        "health-start-period",
        "stop-timeout",
        "label-file",
        "expose",
        "dns",
        "link",
        "cgroup-parent",
        "cgroupns",
        "device-cgroup-rule",
        "sysctl",
        "uts",
        "userns",
        "volumes-from",
        "volume-driver",
        "storage-opt",
        "isolation",
        "annotation",
        "attach",
        "cpu-shares",
        "cidfile",
    ]
)


@dataclass(frozen=True)
class DockerRun:
    container: Container
    words: tuple[Word, ...]
    """What follows the image."""
    environment: dict[str, Given]


def read_docker_run(words: Sequence[Word]) -> DockerRun | None:
    """``docker run`` or ``podman run``, wrappers before them."""
    start = _find_run(words)
    if start is None:
        return None
    options: dict[str, list[Given]] = {}
    at = start
    while at < len(words) and (words[at].text or "").startswith("-"):
        name, given, used = _option(words, at)
        options.setdefault(name, []).append(given)
        at += used
    if at >= len(words):
        return None
    found = {name: tuple(given) for name, given in options.items()}
    image = Given(
        "image", "image", words[at].text, *(words[at].place,) * 3, words[at].is_secret_safe
    )
    container = Container(
        kind="docker",
        place=join_places(words[:at]),
        image=image,
        options=found,
        mounts=dict(_mounts(found)),
    )
    return DockerRun(container, tuple(words[at + 1 :]), dict(_environment(found)))


def _find_run(words: Sequence[Word]) -> int | None:
    for at, word in enumerate(words[:-1]):
        if (word.text or "").rsplit("/", maxsplit=1)[-1] in ("docker", "podman", "nerdctl"):
            following = [each.text for each in words[at + 1 : at + 3]]
            if following[:1] in (["run"], ["create"]):
                return at + 2
            if following == ["container", "run"]:
                return at + 3
    return None


def _option(words: Sequence[Word], at: int) -> tuple[str, Given, int]:
    word = words[at]
    text, equals, tail = (word.text or "").partition("=")
    short = not text.startswith("--")
    name = _SHORT.get(text[-1:], text.lstrip("-")) if short else text[2:]
    glued = short and len(text) > 2 and _SHORT.get(text[1]) not in _SWITCHES
    if glued:
        return _SHORT.get(text[1], text), _given(text[:2], (word.text or "")[2:], word, word), 1
    if equals:
        return name, _given(text, tail, word, word), 1
    if name in _SWITCHES or at + 1 >= len(words):
        return name, _given(text, True, word, word), 1
    value = words[at + 1]
    written = value.text if value.text is not None else value.raw
    return name, _given(text, written, word, value), 2


def _given(text: str, value: str | bool, first: Word, last: Word) -> Given:
    read = parse_value(value) if isinstance(value, str) else value
    place = join_places([first, last]) if first is not last else first.place
    return Given(
        name=text.lstrip("-").replace("-", "_"),
        text=text,
        value=read,
        place=place,
        name_place=first.place,
        value_place=last.place,
        from_variable=last.is_secret_safe,
    )


def _mounts(options: dict[str, tuple[Given, ...]]) -> list[tuple[str, str]]:
    found = []
    for given in options.get("volume", ()):
        source, _, rest = str(given.value).rpartition(":")
        if rest in ("ro", "rw", "z", "Z", "ro,z"):
            source, _, rest = source.rpartition(":")
        found.append((rest, source or rest))
    for given in options.get("mount", ()):
        parts = dict(p.partition("=")[::2] for p in str(given.value).split(","))
        target = parts.get("target") or parts.get("dst") or parts.get("destination") or ""
        found.append((target, parts.get("source") or parts.get("src") or parts.get("type", "")))
    return found


def _environment(options: dict[str, tuple[Given, ...]]) -> list[tuple[str, Given]]:
    """``-e NAME`` alone takes the value from the caller; it does not stand in the file."""
    found = []
    for given in options.get("env", ()):
        name, equals, value = str(given.value).partition("=")
        place: Place = given.value_place or given.place
        safe = given.from_variable or not equals
        found.append(
            (name, Given(name, name, value if equals else None, place, place, place, safe))
        )
    return found
