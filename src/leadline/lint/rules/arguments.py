"""Arguments that this release does not take, or does not take like this."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from leadline.catalog.engine_facts import (
    Argument,
    EngineFacts,
    History,
    Surface,
    load_facts,
    parse_release,
)
from leadline.lint.command import UNKNOWN, Command, Given
from leadline.lint.docker import OPTIONS as DOCKER_OPTIONS
from leadline.lint.finding import Edit, Hit
from leadline.lint.rule import rule
from leadline.lint.table import find_successor, translate
from leadline.units import parse_tokens

_FACTS = "the release's own distribution, see catalog/facts"


def surface_of(command: Command) -> Surface:
    return "python" if command.style == "python" else "cli"


def find_argument(command: Command, given: Given, version: str) -> Argument | None:
    """What this release makes of the argument; prefixes of a flag count, as argparse reads them."""
    facts = load_facts(command.engine)
    if command.style == "python":
        return facts.names("python", version).get(given.name)
    if command.style == "campaign":
        return facts.flags(version).get("--" + given.name.replace("_", "-"))
    return _find_option(facts, command.engine, given, version)


def _find_option(facts: EngineFacts, engine: str, given: Given, version: str) -> Argument | None:
    flags, flag = facts.flags(version), spell_flag(given, engine)
    positive = flags.get("--" + flag.removeprefix("--no-")) if flag.startswith("--no-") else None
    if positive is not None and positive.kind == "boolean":
        return positive
    if "." in flag and (base := flags.get(flag.partition(".")[0])) and base.kind == "json":
        return base
    if engine == "vllm" and re.fullmatch(r"-O\d?(\..*)?", flag):
        return flags.get("--optimization-level") or flags.get("--compilation-config")
    return flags.get(flag) or _abbreviated(flag, flags)


def spell_flag(given: Given, engine: str) -> str:
    """VLLM's parser takes underscores for dashes; SGLang's does not."""
    text = given.text
    return text.replace("_", "-") if engine == "vllm" and text.startswith("--") else text


def _abbreviated(flag: str, flags: Any) -> Argument | None:
    found = {
        id(a): a for name, a in flags.items() if flag.startswith("--") and name.startswith(flag)
    }
    return next(iter(found.values())) if len(found) == 1 else None


def _spelling(command: Command, given: Given) -> str:
    if command.style == "campaign":
        return "--" + given.name.replace("_", "-")
    return given.name if command.style == "python" else spell_flag(given, command.engine)


def _missing(command: Command, version: str) -> Iterator[tuple[Given, str, History | None]]:
    """Arguments that the release does not know, with what is known of other releases."""
    facts, surface = load_facts(command.engine), surface_of(command)
    for given in command.arguments:
        if find_argument(command, given, version) is None and not _is_elsewhere(
            command, given, version
        ):
            spelling = _spelling(command, given)
            yield given, spelling, facts.history(surface, spelling)


def _is_elsewhere(command: Command, given: Given, version: str) -> bool:
    return _place_of(command, given, version) is not None


@rule("ARG001", "error", _FACTS)
def unknown(command: Command, version: str) -> Iterator[Hit]:
    """Argument that no release knows.

    The server prints its usage and ends, or Python raises a TypeError.
    """
    facts = load_facts(command.engine)
    for given, spelling, history in _missing(command, version):
        if history is None and "." not in spelling:
            near = facts.nearest(surface_of(command), spelling, version)
            yield Hit(
                f"no release of {command.engine} has {given.text}",
                given.name_place,
                f"write {near}" if near else "take it out",
                edits=_rename(given, near) if near and near[:12] == spelling[:12] else (),
            )


def _rename(given: Given, name: str) -> tuple[Edit, ...]:
    return (Edit(given.name_place.span, name),) if given.name_place.span else ()


@rule("ARG002", "error", _FACTS)
def removed(command: Command, version: str) -> Iterator[Hit]:
    """Argument that a release took away.

    It was right once; the server or the constructor refuses it now.
    """
    facts = load_facts(command.engine)
    for given, _, history in _missing(command, version):
        if history is None or history.removed is None:
            continue
        if parse_release(version) >= parse_release(history.removed):
            row = find_successor(command.engine, given.name)
            yield Hit(
                f"{given.text} was removed in {command.engine} {history.removed} "
                f"(last in {history.last})",
                given.place,
                f"take it out; {row['use']}" if row else "take it out",
                source=row["source"] if row else facts.source(history.removed),
                edits=_delete(given) if row and row.get("drop") else (),
            )


def _delete(given: Given) -> tuple[Edit, ...]:
    return (Edit(given.place.span, ""),) if given.place.span else ()


@rule("ARG003", "error", _FACTS)
def too_new(command: Command, version: str) -> Iterator[Hit]:
    """Argument of a later release."""
    for given, _, history in _missing(command, version):
        if history and parse_release(version) < parse_release(history.added):
            yield Hit(
                f"{given.text} came with {command.engine} {history.added}",
                given.name_place,
                f"take it out, or run {command.engine} {history.added} or newer",
            )


@rule("ARG004", "warning", _FACTS)
def deprecated(command: Command, version: str) -> Iterator[Hit]:
    """Argument that is going to be removed."""
    facts = load_facts(command.engine)
    for given in command.arguments:
        found = find_argument(command, given, version)
        if found is None or not found.deprecated:
            continue
        surface, spelling = surface_of(command), _spelling(command, given)
        since = facts.deprecated_since(surface, spelling, version)
        history = facts.history(surface, spelling)
        gone = f", removed in {history.removed}" if history and history.removed else ""
        row = find_successor(command.engine, given.name)
        yield Hit(
            f"{given.text} is deprecated since {command.engine} {since or version}{gone}",
            given.name_place,
            row["use"] if row else "take it out, or follow the engine's advice",
            why=f"the engine says: {found.deprecated}",
        )


@rule("ARG005", "error", _FACTS)
def misplaced(command: Command, version: str) -> Iterator[Hit]:
    """Argument that belongs to another program.

    To ``docker run``, to the server instead of ``LLM()``, or to the other engine.
    """
    for given in command.arguments:
        if find_argument(command, given, version) is None:
            found = _place_of(command, given, version)
            if found:
                yield Hit(f"{given.text} {found[0]}", given.place, found[1])


def _place_of(command: Command, given: Given, version: str) -> tuple[str, str] | None:
    facts, flag = load_facts(command.engine), "--" + given.name.replace("_", "-")
    docker = command.container is not None and command.container.kind == "docker"
    if docker and command.style == "cli" and flag[2:] in DOCKER_OPTIONS:
        return "is an option of docker run, after the image", "move it before the image"
    if command.style == "python" and flag in facts.flags(version):
        return "is an option of the server only", "take it out of the constructor"
    if command.style != "python" and given.name in facts.names("python", version):
        if facts.history("cli", flag) is None:
            return "is no option of the server, only a keyword in Python", "take it out"
    other = "sglang" if command.engine == "vllm" else "vllm"
    if facts.history(surface_of(command), _spelling(command, given)) is None:
        foreign = load_facts(other)
        if flag in foreign.flags(foreign.newest):
            own = translate(foreign.destination(flag) or given.name, command.engine)
            return f"is an argument of {other}", f"write {own}" if own else "take it out"
    return None


@rule("ARG006", "error", _FACTS)
def wrong_type(command: Command, version: str) -> Iterator[Hit]:
    """Value of the wrong type."""
    for given in command.arguments:
        found = find_argument(command, given, version)
        problem = _type_problem(command, found, given) if found else None
        if problem:
            yield Hit(
                f"{given.text}: {problem}", given.value_place or given.place, "mend the value"
            )


def _type_problem(command: Command, found: Argument, given: Given) -> str | None:
    value = given.value
    in_name = "." in given.text or given.text.startswith("-O")
    if value is UNKNOWN or value is None or in_name:
        return None
    if command.style == "cli" and value is True and not found.bare:
        return None if found.kind in ("switch", "boolean", "optional") else "needs a value"
    if isinstance(value, list) and found.many:
        return None
    check = {
        "int": _int_problem,
        "size": _size_problem,
        "float": _float_problem,
        "json": _json_problem,
    }
    return check[found.kind](value, command) if found.kind in check else None


def _int_problem(value: Any, command: Command) -> str | None:
    if isinstance(value, bool | float) or (command.style == "python" and isinstance(value, str)):
        return f"{value!r} is not a whole number"
    try:
        int(value)
    except (TypeError, ValueError):
        # A campaign writes lengths with their suffix; Leadline passes on the number.
        readable = command.style == "campaign" and _size_problem(value, command) is None
        return None if readable else f"{value!r} is not a whole number"
    return None


def _size_problem(value: Any, command: Command) -> str | None:
    if command.style == "python":
        return _int_problem(value, command) if not isinstance(value, int) else None
    if str(value) in ("auto", "-1"):
        return None
    try:
        parse_tokens(str(value))
    except ValueError:
        return f"{value!r} is not a number like 2097152 or 2M"
    return None


def _float_problem(value: Any, _command: Command) -> str | None:
    try:
        float(value)
    except (TypeError, ValueError):
        return f"{value!r} is not a number"
    return None


def _json_problem(value: Any, command: Command) -> str | None:
    if isinstance(value, dict | list) or command.style == "python":
        return None
    try:
        json.loads(str(value))
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg}" if str(value).lstrip().startswith(("{", "[")) else None
    return None


@rule("ARG007", "error", _FACTS)
def wrong_choice(command: Command, version: str) -> Iterator[Hit]:
    """Value that is none of the choices."""
    for given in command.arguments:
        found = find_argument(command, given, version)
        if found is None or not found.choices or given.value in (UNKNOWN, None, True, "None"):
            continue
        values = given.value if isinstance(given.value, list) else [given.value]
        if isinstance(values[0], dict):
            continue
        known = [str(choice) for choice in found.choices]
        for value in values:
            if value is not UNKNOWN and str(value) not in known:
                yield Hit(
                    f"{given.text} {value} is none of the choices of {command.engine} {version}",
                    given.value_place or given.place,
                    "write one of " + ", ".join(known),
                )


@rule("ARG008", "warning", "argparse: the last one wins")
def repeated(command: Command, version: str) -> Iterator[Hit]:
    """Argument given twice; only the last counts."""
    if command.style == "campaign":
        return
    counts = Counter(given.name for given in command.arguments)
    for given in command.arguments:
        found = find_argument(command, given, version)
        last = command.given[given.name]
        if counts[given.name] > 1 and given is not last and not (found and found.many):
            yield Hit(
                f"{given.text} is given again in line {last.place.line}, where it wins",
                given.place,
                "keep one",
            )


@rule("ARG009", "warning", "argparse, allow_abbrev: a later release may add a second match")
def abbreviated(command: Command, version: str) -> Iterator[Hit]:
    """Abbreviated option; it works until another option begins the same way."""
    if command.style != "cli":
        return
    flags = load_facts(command.engine).flags(version)
    for given in command.arguments:
        flag = spell_flag(given, command.engine)
        found = find_argument(command, given, version)
        exact = flag in flags or "." in flag or flag.startswith(("--no-", "-O"))
        if found and not exact:
            yield Hit(
                f"{given.text} is short for {found.flags[0]}",
                given.name_place,
                f"write {found.flags[0]}",
                edits=_rename(given, found.flags[0]),
            )


@rule("ENV001", "warning", _FACTS)
def unknown_variable(command: Command, version: str) -> Iterator[Hit]:
    """Environment variable that this release does not read."""
    facts = load_facts(command.engine)
    prefix = {"vllm": ("VLLM_",), "sglang": ("SGLANG_", "SGL_")}[command.engine]
    own = ("VLLM_NEURON_",) if command.neuron else ()
    known = facts.names("environment", version)
    for name, given in command.environment.items():
        if name.startswith(prefix) and not name.startswith(own or ("\0",)) and name not in known:
            history = facts.history("environment", name)
            near = facts.nearest("environment", name, version)
            gone = (
                f"; {command.engine} had it from {history.added} to {history.last}"
                if history
                else ""
            )
            yield Hit(
                f"{command.engine} {version} does not read {name}{gone}",
                given.place,
                f"write {near}" if near and not history else "take it out",
            )


RULES = (
    unknown, removed, too_new, deprecated, misplaced, wrong_type, wrong_choice, repeated,
    abbreviated, unknown_variable,
)  # fmt: skip
