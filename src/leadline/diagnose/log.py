"""A server's log as evidence: numbered lines freed of their trimmings, and the exceptions in it.

Engines of several processes print into one log. What a line says is told from what stands before
it (colours, process, level, time, source); a trace belongs to the process that prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

QUOTE_CHARS = 400
TELLING_CHARS = 2000
"""What a line has to say it says at its start; dumps of whole configurations go on behind."""

_COLOUR = re.compile(r"\x1b?\[\d+(?:;\d+)*m")
_CARRIER = re.compile(  # journald, compose's names, docker logs -t, kubectl --timestamps
    r"^(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \S+\[\d+\]: )?"
    r"(?:\S+\s+\|\s)?(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)\s)?"
)
_PROCESS = re.compile(r"^\((?P<name>[\w.-]+(?: rank=\d+)?) (?:pid|ip)=[^)]*\)\s?")
_RANK = re.compile(r"^\[(?P<rank>rank\d+|(?:DP\d+ )?(?:PP\d+ )?TP\d+)\]:?\s?")
_STAMP = re.compile(
    r"^(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+[\d-]+ [\d:.]+ \[?[\w./<>-]+:\d+\]\s?"
    r"|(?P<level2>DEBUG|INFO|WARNING|ERROR|CRITICAL):\s+"
    r"|\d{4}-\w{3}-\d\d [\d:.]+\s+\d+:\d+\s+(?P<neuron>DEBUG|INFO|WARN|ERROR)\s+"
    r"|\d{4}-\d\d-\d\d[ T][\d:.,]+Z?[ -]+(?:[\w.]+ - )?"
    r"(?P<python>DEBUG|INFO|WARNING|ERROR|CRITICAL)\b[ :-]*"
    r"|\d{4}/\d\d/\d\d [\d:]+ \[(?P<nginx>debug|info|notice|warn|error|crit|alert|emerg)\] "
    r"|\d+\.\d\d\.\d{3}\.\d{3} (?P<letter>[DIWE]) "
    r"|\[\d{4}-\d\d-\d\d [\d:.]+(?P<rank>(?: \w+\d+)*)\]\s"
    r"(?P<level3>DEBUG|INFO|WARNING|ERROR)?:?\s*"
    r")"
)
_LEVELS = {
    "D": "DEBUG", "I": "INFO", "W": "WARNING", "E": "ERROR", "WARN": "WARNING",
    "debug": "DEBUG", "info": "INFO", "notice": "INFO", "warn": "WARNING", "error": "ERROR",
    "crit": "CRITICAL", "alert": "CRITICAL", "emerg": "CRITICAL",
}  # fmt: skip
_EXCEPTION = re.compile(r"^(?P<type>(?:\w+\.)*[A-Z]\w*)(?::\s?(?P<text>.*))?$")
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)')
_QUIET = {"DEBUG", "INFO", "WARNING"}
_READY = re.compile(
    r"Application startup complete|The server is fired up and ready to roll|"
    r"server is listening on|HTTP server listening|all slots are idle|listening on http",
    re.IGNORECASE,
)
_STARTING = re.compile(
    r"vLLM API server version|Initializing a V\d LLM engine|server_args=ServerArgs|"
    r"llama_model_loader: loaded|Starting to load model|Load weight begin",
)


@dataclass(frozen=True)
class LogLine:
    number: int
    """From 1."""
    raw: str
    text: str
    """Without colours, carrier, process, level, time and source."""
    process: str = ""
    level: str = ""

    @property
    def is_quiet(self) -> bool:
        """Said at a level at which nothing has failed."""
        return self.level in _QUIET

    @property
    def is_raise(self) -> bool:
        """Source text within a trace: the exception itself follows, with its figures."""
        return self.text.lstrip().startswith("raise ")


@dataclass(frozen=True)
class LoggedException:
    number: int
    """Of the line that names it."""
    text: str
    process: str
    frames: tuple[str, ...]
    """``file:line function``, outermost first, and behind each its own line of source."""
    quiet: bool
    """Reported and dealt with: at a quiet level, ignored, or of one request in the web layer."""


@dataclass(frozen=True)
class Log:
    lines: tuple[LogLine, ...]

    @cached_property
    def spoken(self) -> dict[str, list[LogLine]]:
        """What may tell of a failure, by its text: a log repeats itself, and debugs."""
        found: dict[str, list[LogLine]] = {}
        for line in self.lines:
            if line.text and line.level != "DEBUG" and not line.is_raise:
                found.setdefault(line.text[:TELLING_CHARS], []).append(line)
        return found

    @cached_property
    def exceptions(self) -> tuple[LoggedException, ...]:
        return tuple(_read_exceptions(self.lines))

    @cached_property
    def ready_line(self) -> LogLine | None:
        return next((line for line in self.lines if _READY.search(line.text)), None)

    @cached_property
    def is_starting(self) -> bool:
        """It begins to tell of a start, and never that the server is ready."""
        return self.ready_line is None and any(_STARTING.search(line.text) for line in self.lines)

    def exception_at(self, number: int) -> LoggedException | None:
        return next((item for item in self.exceptions if item.number == number), None)

    def following(self, line: LogLine, count: int) -> tuple[LogLine, ...]:
        """The next lines of the same process."""
        rest = (other for other in self.lines[line.number :] if other.process == line.process)
        return tuple(other for other, _ in zip(rest, range(count), strict=False))


def split_lines(text: str) -> list[str]:
    """As grep and sed number them: a carriage return (a progress bar) ends none."""
    lines = text.split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def read_log(lines: Iterable[str]) -> Log:
    return Log(tuple(_read_line(number, line) for number, line in enumerate(lines, start=1)))


def shorten(line: str) -> str:
    """An endless line is cut, and shows it."""
    line = _COLOUR.sub("", line).rstrip()
    return line if len(line) <= QUOTE_CHARS else f"{line[:QUOTE_CHARS]}…"


def _read_line(number: int, raw: str) -> LogLine:
    raw = raw.rstrip("\r\n").rpartition("\r")[2]  # what a terminal would still show
    text = _CARRIER.sub("", _COLOUR.sub("", raw))
    process = level = ""
    if match := _PROCESS.match(text):
        process, text = match["name"], text[match.end() :]
    if match := _RANK.match(text):
        process, text = process or match["rank"], text[match.end() :]
    if match := _STAMP.match(text):
        level = _level(match)
        process = process or (match["rank"] or "").strip()
        text = text[match.end() :]
    return LogLine(number, raw, text, process, level)


def _level(match: re.Match[str]) -> str:
    names = ("level", "level2", "level3", "neuron", "python", "nginx", "letter")
    said = next((match[name] for name in names if match[name]), "")
    return _LEVELS.get(said, said)


@dataclass
class _Trace:
    quiet: bool
    fresh: bool = False
    """The line of source is still to come."""
    frames: list[str] = field(default_factory=list)


def _read_exceptions(lines: Iterable[LogLine]) -> Iterable[LoggedException]:
    """Each process has at most one trace open; another's lines do not end it.

    Where only the first line of a trace is stamped (SGLang), the bare ones behind belong to it.
    """
    traces: dict[str, _Trace] = {}
    handled: set[str] = set()
    latest = ""
    for line in lines:
        process = line.process or ("" if "" in traces else latest)
        if line.text.startswith(("Exception ignored in", "Exception in ASGI application")):
            handled.add(line.process)
        elif line.text.endswith("Traceback (most recent call last):"):
            traces[line.process] = _Trace(line.is_quiet or line.process in handled)
            latest = line.process
        elif process in traces:
            trace = traces[process]
            if frame := _FRAME.match(line.text):
                trace.frames.append(f"{frame['file']}:{frame['line']} {frame['name']}")
                trace.fresh = True
            elif trace.frames and _EXCEPTION.match(line.text):
                del traces[process]
                handled.discard(process)
                text = shorten(line.text)
                frames = tuple(trace.frames)
                yield LoggedException(line.number, text, process, frames, trace.quiet)
            elif trace.fresh:
                trace.frames[-1] += f": {line.text.strip()}"
                trace.fresh = False
