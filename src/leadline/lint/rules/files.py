"""What stands in a file beside its engine commands: ingresses, clients, installations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from leadline.lint.command import Place
from leadline.lint.documents import read_number
from leadline.lint.finding import Hit
from leadline.lint.reading import Reading
from leadline.lint.rule import FileRule, file_rule
from leadline.lint.rules.plans import find_plan

_PLACEHOLDERS = ("vllm-neuron", "neuronx-distributed-inference")
_INDEX_OPTIONS = ("--extra-index-url", "--index-url", "-i", "--find-links", "-f")
_PROXIES = ("Ingress", "HTTPRoute")
_ENVOY_S = 15.0
_ALB = "alb.ingress.kubernetes.io/"
_NGINX = "nginx.ingress.kubernetes.io/"
_BODY = re.compile(r"(\d+)([kmg]?)", re.IGNORECASE)
_BODY_BYTES = 32 * 2**20
"""A prompt of 2M tokens is 8.5 MB as text and 14 MB as ids."""
_PROXY_S = 600


@file_rule("ENG003", "note", "nothing was checked")
def nothing_found(reading: Reading) -> Iterator[Hit]:
    """No engine command was found in the file."""
    if not reading.commands and not any(each.get("kind") in _PROXIES for each in reading.objects):
        cure = "give the file that starts the engine; `leadline lint --help` says what is read"
        yield Hit("no command of vLLM or SGLang in this file", Place(1), cure)


@file_rule("NEU014", "error", "vllm-neuron and neuronx-distributed-inference on the public index")
def placeholder_package(reading: Reading) -> Iterator[Hit]:
    """Package of the public index that is only a placeholder.

    Both are two-kilobyte packages that say "WRONG PACKAGE"; the real ones are on the index of AWS.
    """
    for words in reading.programs:
        texts = [word.text or "" for word in words]
        own_index = any(text.split("=")[0] in _INDEX_OPTIONS for text in texts)
        if "install" in texts and not own_index:
            for word in words:
                if re.split(r"[=<>\[!~]", word.text or "")[0] in _PLACEHOLDERS:
                    yield Hit(
                        f"{word.text} of the public index is a placeholder",
                        word.place,
                        "add --extra-index-url with the Neuron index, as the Neuron guide has it",
                    )


@file_rule("KUB013", "warning", "NVIDIA/srt-slurm issue 231; nginx documentation: 1 MiB, 60 s")
def impatient_ingress(reading: Reading) -> Iterator[Hit]:
    """Ingress that cuts off long prompts.

    nginx allows 1 MiB of body and 60 s of silence unless told otherwise; a prompt of 2M tokens
    has 14 MB as ids and says nothing for minutes.
    """
    for entry in reading.objects:
        if entry.get("kind") == "Ingress":
            metadata = entry.get("metadata")
            given = metadata.get("annotations") if isinstance(metadata, dict) else None
            notes = given if isinstance(given, dict) else {}
            place, longest = Place(entry["__line__"]), _longest_s(reading)
            if any(key.startswith(_ALB) for key in notes):
                yield from _check_alb(
                    str(notes.get(_ALB + "load-balancer-attributes")), place, longest
                )
            else:
                yield from _check_nginx(notes, place, longest)


@file_rule("KUB018", "warning", "Gateway API documentation, HTTPRouteTimeouts; Envoy: 15 s")
def impatient_route(reading: Reading) -> Iterator[Hit]:
    """Gateway route that cuts off long prompts.

    Without ``timeouts`` the gateway's own hold; Envoy's is 15 seconds for the whole answer.
    """
    longest = _longest_s(reading)
    for entry in reading.objects:
        if entry.get("kind") != "HTTPRoute":
            continue
        spec = entry.get("spec")
        for each in spec.get("rules", []) if isinstance(spec, dict) else []:
            timeouts = each.get("timeouts") if isinstance(each, dict) else None
            given = timeouts.get("request") if isinstance(timeouts, dict) else None
            seconds = _duration_s(str(given)) if given is not None else _ENVOY_S
            if 0 < seconds < longest:
                yield Hit(
                    f"the route gives up after {seconds:.0f} s, the longest prompt may take "
                    f"{longest:.0f} s",
                    Place(entry["__line__"]),
                    f"timeouts: {{request: {longest * 1.5:.0f}s}}",
                )


def _duration_s(text: str) -> float:
    """``1h30m``, ``90s``, ``500ms`` of the Gateway API; 0 switches the limit off."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3}
    return sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)(ms|h|m|s)", text))


def _check_alb(attributes: str, place: Place, longest_s: float) -> Iterator[Hit]:
    given = re.search(r"idle_timeout\.timeout_seconds=(\d+)", attributes)
    seconds = int(given[1]) if given else 60
    if seconds < longest_s:
        yield Hit(
            f"the load balancer is idle for {seconds} s, the longest prompt may take "
            f"{longest_s:.0f} s",
            place,
            f"{_ALB}load-balancer-attributes: idle_timeout.timeout_seconds={longest_s * 1.5:.0f}",
        )


def _check_nginx(notes: Mapping[str, Any], place: Place, longest_s: float) -> Iterator[Hit]:
    for name in ("proxy-read-timeout", "proxy-send-timeout"):
        seconds = read_number(str(notes.get(_NGINX + name, 60)).rstrip("s"), 0)
        if seconds < longest_s:
            shown = f"{name} is {seconds:.0f} s, the longest prompt may take {longest_s:.0f} s"
            yield Hit(shown, place, f'{_NGINX}{name}: "{longest_s * 1.5:.0f}"')
    size = _body_bytes(str(notes.get(_NGINX + "proxy-body-size", "1m")))
    if 0 < size < _BODY_BYTES:
        yield Hit(
            "proxy-body-size is too small for long prompts",
            place,
            f'{_NGINX}proxy-body-size: "64m"',
        )


def _body_bytes(text: str) -> int:
    found = _BODY.fullmatch(text)
    return int(found[1]) * 1024 ** " kmg".index((found[2] or " ").lower()) if found else 0


def _longest_s(reading: Reading) -> float:
    """The slowest planned prefill of the file's commands; without a plan a round figure."""
    plans = [find_plan(each, version) for each in reading.commands for version in each.versions]
    times = [plan.time.prefill_s.high for plan in plans if plan and plan.time]
    return max(times, default=_PROXY_S)


@file_rule("TIM001", "error", "vllm issues 2484, 20520; vllm-omni issue 5923")
def impatient_client(reading: Reading) -> Iterator[Hit]:
    """Client that gives up before the planned prefill is over.

    The server aborts the request, and a client that tries again doubles the load. Only where
    the file, or --model and --hardware, tell the deployment.
    """
    known = [p for c in reading.commands for v in c.versions if (p := find_plan(c, v)) and p.time]
    if not known:
        return
    longest = _longest_s(reading)
    for name, seconds, place in reading.waits:
        if seconds < longest:
            yield Hit(
                f"{name} {seconds:g} s, the longest prompt may take {longest:.0f} s",
                place,
                f"wait {max(p.time.timeout_s for p in known if p.time):.0f} s",
            )


FILE_RULES: tuple[FileRule, ...] = (
    nothing_found,
    placeholder_package,
    impatient_ingress,
    impatient_route,
    impatient_client,
)
