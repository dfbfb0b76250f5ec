"""Failure signatures: what engines print when they fail, as data (``catalog/failures/*.toml``).

A signature is a rule whose check is a pattern. Keys of an entry:

``pattern``      searched in each line's own text; named groups are facts for ``amount``
``unless``       a line that matches this too is none
``needs``        some line must match this as well
``overcome``     a line behind it that matches this says that it was got over: then it is none
``frames``       the line must end a trace that runs through such a function
``times``        how many lines must match
``weight``       ``cause`` (the default), ``general`` (true, but another may tell more),
                 ``consequence`` (of another failure), ``request`` (one request failed, the server
                 lives), ``note`` (worth knowing, no failure)
``follow``       quote so many lines behind it; ``quote_exception`` the one that ends its trace
``turns``        settings and their direction, "lower X" or "raise X"
``amount``       a function of ``amounts.py`` that knows how far; where it does, its words stand in
                 place of ``remedy``, and ``beside`` behind them
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

from leadline.catalog.reading import read_table
from leadline.diagnose.amounts import AMOUNTS
from leadline.diagnose.facts import LogFacts
from leadline.diagnose.log import Log, LogLine, read_log, shorten
from leadline.diagnose.rule import Evidence
from leadline.records import Finding, Turn

FILES = ("startup", "memory", "platform", "neuron", "serving")
MOST_QUOTES = 3

Weight = Literal["cause", "general", "consequence", "request", "note"]


@dataclass(frozen=True)
class Signature:
    code: str
    title: str
    cause: str
    pattern: str
    explanation: str
    remedy: str
    source: str
    example: str
    near_miss: str
    weight: Weight = "cause"
    unless: str = ""
    needs: str = ""
    overcome: str = ""
    frames: str = ""
    times: int = 1
    follow: int = 0
    quote_exception: bool = False
    turns: tuple[str, ...] = ()
    amount: str = ""
    beside: str = ""
    versions: str = ""
    examples: tuple[str, ...] = ()
    example_frames: str = ""

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.IGNORECASE)

    def matches(self, log: Log) -> tuple[LogLine, ...]:
        """The lines that show it; none unless all its conditions hold."""
        search = self._compiled.search
        texts = [text for text in log.spoken if search(text)]
        found = [
            line for text in texts for line in log.spoken[text] if self._is_shown_by(line, log)
        ]
        found = [line for line in found if line.number > self._overcome_at(log)]
        if len(found) < self.times or not self._holds(log):
            return ()
        return tuple(sorted(found, key=lambda line: line.number))

    def apply(self, evidence: Evidence) -> Finding | None:
        """As the rules for requests do it: on the lines that an evidence holds."""
        log = read_log(evidence.log)
        lines = self.matches(log)
        return self.find(lines, log, LogFacts(log)) if lines else None

    def find(self, lines: tuple[LogLine, ...], log: Log, facts: LogFacts) -> Finding:
        match = self._compiled.search(lines[0].text)
        advice = AMOUNTS[self.amount](match, facts) if self.amount and match else None
        quoted = self._quote(lines, log)
        return Finding(
            code=self.code,
            title=self.title,
            cause=self.cause,
            explanation=self.explanation,
            evidence=tuple(shorten(line.raw) for line in quoted),
            line_numbers=tuple(line.number for line in quoted),
            remedy=f"{advice.text}{self.beside}" if advice else self.remedy,
            turns=_merge(self.turns, advice.turns if advice else ()),
            source=self.source,
            versions=self.versions,
        )

    def _is_shown_by(self, line: LogLine, log: Log) -> bool:
        if self.unless and re.search(self.unless, line.raw, re.IGNORECASE):
            return False
        return not self.frames or self._runs_through(line, log)

    def _overcome_at(self, log: Log) -> int:
        """The number of the last line that says so; 0 if none does."""
        if not self.overcome:
            return 0
        found = re.compile(self.overcome, re.IGNORECASE)
        numbers = [line.number for t in log.spoken if found.search(t) for line in log.spoken[t]]
        return max(numbers, default=0)

    def _runs_through(self, line: LogLine, log: Log) -> bool:
        exception = log.exception_at(line.number)
        names = " ".join(exception.frames) if exception else ""
        return bool(re.search(self.frames, names))

    def _holds(self, log: Log) -> bool:
        needed = re.compile(self.needs, re.IGNORECASE)
        return not self.needs or any(needed.search(text) for text in log.spoken)

    def _quote(self, lines: tuple[LogLine, ...], log: Log) -> list[LogLine]:
        """The first lines that say something new, and what belongs to them."""
        seen: dict[str, LogLine] = {}
        for line in lines:
            seen.setdefault(line.text.strip(), line)
        quoted = list(seen.values())[:MOST_QUOTES]
        quoted += log.following(lines[0], self.follow)
        if self.quote_exception:
            quoted += _exception_after(lines[0], log)
        return quoted


@cache
def list_signatures() -> tuple[Signature, ...]:
    """All of them, in the order of the files; of one line the first that matches speaks."""
    return tuple(_read_all())


def _read_all() -> Iterator[Signature]:
    for name in FILES:
        for entry in read_table(f"failures/{name}")["signature"]:
            lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
            yield Signature(**{**entry, **lists})


def _exception_after(line: LogLine, log: Log) -> list[LogLine]:
    number = next((item.number for item in log.exceptions if item.number > line.number), None)
    return [log.lines[number - 1]] if number else []


def _merge(turns: tuple[str, ...], known: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The directions of the table; where an amount is known, with it."""
    amounts = {turn.setting: turn for turn in known}
    listed = [_read_turn(text) for text in turns]
    merged = [amounts.pop(turn.setting, turn) for turn in listed]
    return (*merged, *amounts.values())


def _read_turn(text: str) -> Turn:
    way, _, rest = text.partition(" ")
    setting, _, value = rest.partition(" to ")
    return Turn(setting=setting, way=way, to=value or None)
