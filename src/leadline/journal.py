"""The run directory: append-only JSON lines, flushed before the next step, read back torn or whole.

Everything observed is written here first; everything else is derived from it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from leadline.errors import JournalError
from leadline.records import FINDING_SCHEMA, RECORD_SCHEMA, Finding, Record

RUN_SCHEMA = "leadline.run/1"
REPORT = "report.json"

L = TypeVar("L", Record, Finding)

_SECRET = re.compile(
    r"(\bhf_[A-Za-z0-9]{8,}|\bsk-[A-Za-z0-9_-]{8,}|(?<=Bearer )[A-Za-z0-9._~+/=-]{8,})"
)
_REDACTED = "[redacted]"
_BLOCK_BYTES = 64 * 1024


class Redactor:
    """Removes known secret values, and what looks like one, from everything that is kept."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _REDACTED)
        return _SECRET.sub(_REDACTED, text)

    def within(self, content: Any) -> Any:
        """The same content with every text in it redacted.

        Before it becomes JSON: there, a secret may be written in another way, or stand by chance
        in a figure or be the name of a field.
        """
        if isinstance(content, str):
            return self(content)
        if isinstance(content, Mapping):
            return {key: self.within(value) for key, value in content.items()}
        if isinstance(content, list | tuple):
            return [self.within(item) for item in content]
        return content


class Journal:
    """One run's directory, held by one process at a time.

    Errors: ``JournalError`` when another process holds it or it cannot be written.
    """

    def __init__(self, path: Path, redact: Redactor | None = None) -> None:
        self.path = path
        self.redact = redact or Redactor()
        self._lock = _lock(path)
        self._files: dict[str, FileIO] = {}
        try:
            _clear_up(path)
        except OSError as error:
            self.close()
            raise _unwritable(path, error) from error

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._lock.close()

    def record(self, record: Record) -> None:
        self.records([record])

    def records(self, records: Iterable[Record]) -> None:
        """All of them in one step: a load ends with thousands, and each step waits for the disk."""
        lines = ({"schema": RECORD_SCHEMA, **item.model_dump(mode="json")} for item in records)
        self._append("records", *lines)

    def finding(self, finding: Finding) -> None:
        self._append("findings", {"schema": FINDING_SCHEMA, **finding.model_dump(mode="json")})

    def scrape(self, sample: dict[str, Any]) -> None:
        self._append("scrapes", sample)

    def event(self, kind: str, **facts: Any) -> None:
        """Something that happened to a deployment, a cell or the run itself."""
        self._append("events", {"at": utc_now(), "event": kind, **facts})

    def write(self, name: str, content: BaseModel | dict[str, Any] | str) -> Path:
        """Write a whole file of the run in one step, never leaving half of it."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, BaseModel):
            content = content.model_dump(mode="json")
        kept = self.redact.within(content)
        write_whole(path, kept if isinstance(kept, str) else _dump(kept).decode())
        return path

    def log_path(self, deployment: str, attempt: int) -> Path:
        log = log_file(self.path, deployment, attempt)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(log.parent, error) from error
        return log

    def _append(self, stream: str, *lines: dict[str, Any]) -> None:
        path = self.path / f"{stream}.jsonl"
        try:
            file = self._files.get(stream) or self._open(path)
            for line in lines:
                _write_line(file, orjson.dumps(self.redact.within(line)) + b"\n")
            os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from error

    def _open(self, path: Path) -> FileIO:
        # Without a buffer: what could not be written must not come again when the file is closed.
        file = self._files[path.stem] = FileIO(path, "ab")
        sync_folder(path.parent)
        return file


class Run:
    """A run as it is read back: all lines, in order, without locking."""

    def __init__(self, path: Path) -> None:
        if not (path / "run.json").is_file():
            raise JournalError(
                "not a run directory: run.json is missing",
                where=str(path),
                cure="give a directory that `leadline runs` lists",
            )
        self.path = path
        self.facts: dict[str, Any] = _read_json(path / "run.json")

    def records(self) -> list[Record]:
        return self._read("records", Record)

    def findings(self) -> list[Finding]:
        return self._read("findings", Finding)

    def events(self) -> list[dict[str, Any]]:
        return list(self.lines("events"))

    def document(self, name: str) -> dict[str, Any]:
        path = self.path / name
        return _read_json(path) if path.is_file() else {}

    @property
    def is_finished(self) -> bool:
        """Nothing is owed, not even the report that says so."""
        ended = any(event["event"] == "run_finished" for event in self.events())
        return ended and bool(self.document(REPORT).get("finished"))

    def lines(self, stream: str) -> Iterator[dict[str, Any]]:
        """The whole lines of one stream; a torn last line counts as never written."""
        path = self.path / f"{stream}.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                yield _parse_line(line, path, number)

    def _read(self, stream: str, kind: type[L]) -> list[L]:
        path = self.path / f"{stream}.jsonl"
        return [
            _validate(kind, line, path, number)
            for number, line in enumerate(self.lines(stream), start=1)
        ]


def create_run(
    root: Path,
    campaign: str,
    facts: dict[str, Any],
    campaign_text: str,
    redact: Redactor | None = None,
) -> Path:
    """A new run directory ``root/<campaign>/<id>`` that appears complete or not at all."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    parent = root / campaign
    try:
        parent.mkdir(parents=True, exist_ok=True)
        path = _new_folder(parent, stamp)
    except OSError as error:
        raise JournalError(
            f"cannot create a run directory: {error.strerror}",
            where=str(parent),
            cure="choose a writable folder with --runs DIR",
        ) from error
    line = {"schema": RUN_SCHEMA, "id": path.name, "started": utc_now(), **facts}
    try:
        write_whole(path / "campaign.yaml", (redact or Redactor())(campaign_text))
        write_whole(path / "run.json", _dump(line).decode())
    except JournalError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def list_runs(root: Path) -> list[Path]:
    """The directories of all runs below ``root``, oldest first."""
    found = sorted(root.glob("*/*/run.json"), key=lambda path: path.parent.name)
    return [path.parent for path in found]


def log_file(run: Path, deployment: str, attempt: int) -> Path:
    """Where the log of one start of a deployment stands, or would."""
    return run / "logs" / folder_name(deployment) / str(attempt) / "server.log"


def find_unfinished(root: Path, campaign: str, digest: str) -> Run | None:
    """The newest run of an equal campaign that never reached its end."""
    for path in sorted((root / campaign).glob("*/run.json"), reverse=True):
        run = Run(path.parent)
        if run.facts.get("digest") == digest and not run.is_finished:
            return run
    return None


def folder_name(key: str) -> str:
    """A cell or deployment key as one folder name."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", key)


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_whole(path: Path, text: str) -> None:
    """Write through a neighbour and rename, so that a reader never meets half a file.

    Not even after a power cut: the disk has the content before it has the name.
    """
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with neighbour.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        neighbour.unlink(missing_ok=True)
        raise JournalError(
            f"cannot be written: {error.strerror}", where=str(path), cure="free disk space"
        ) from error


def _new_folder(parent: Path, stamp: str) -> Path:
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        path = parent / f"{stamp}{suffix}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise JournalError("a thousand runs in one second", where=str(parent), cure="wait a second")


def sync_folder(path: Path) -> None:
    """A new file is there after a power cut only when its folder is on the disk too."""
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _lock(path: Path) -> IO[str]:
    """The kernel's own lock: it ends with its holder, whoever gets that pid afterwards.

    What stands in the file only says who holds it, and counts for nothing once nobody does.
    """
    try:
        file = (path / ".lock").open("a+")
    except OSError as error:
        raise _unwritable(path / ".lock", error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = _read_holder(file)
        file.close()
        raise JournalError(
            f"another leadline process is writing this run{holder}",
            where=str(path),
            cure="wait for it, or start a run of its own with --fresh",
        ) from None
    with suppress(OSError):  # a full disk: then the lock has no name, but holds
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()} since {utc_now()}")
        file.flush()
    return file


def _read_holder(file: IO[str]) -> str:
    file.seek(0)
    named = file.read().strip()
    return f": {named}" if named else ""


def _clear_up(path: Path) -> None:
    """What a killed writer left half done: a torn last line is owed again."""
    for stream in path.glob("*.jsonl"):
        _mend_torn_line(stream)
    for neighbour in path.rglob(".*.new"):
        if not Path("/proc", neighbour.suffixes[-2][1:]).exists():  # else a report being written
            neighbour.unlink()


def _mend_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        size = whole = file.seek(0, os.SEEK_END)
        while whole and not _ends_line(file, whole):
            whole = _last_end(file, whole)
        if whole < size:
            file.truncate(whole)


def _ends_line(file: IO[bytes], end: int) -> bool:
    file.seek(end - 1)
    return file.read(1) == b"\n"


def _last_end(file: IO[bytes], before: int) -> int:
    """Where the last line that ends before there ends, or the start of what was looked at."""
    begin = max(0, before - _BLOCK_BYTES)
    file.seek(begin)
    return begin + file.read(before - begin).rfind(b"\n") + 1


def _write_line(file: FileIO, line: bytes) -> None:
    """All of it or nothing: on a full disk a part may go before the error comes."""
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        if written := len(line) - len(rest):
            file.truncate(file.tell() - written)
        raise


def _unwritable(path: Path, error: OSError) -> JournalError:
    return JournalError(
        f"cannot be written: {error.strerror}",
        where=str(path),
        cure="make it writable, with space on its disk; then the same command resumes",
    )


def _parse_line(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _damaged(path, number, str(error)) from error
    if not isinstance(parsed, dict):
        raise _damaged(path, number, "it is not a JSON object")
    return parsed


def _validate(kind: type[L], line: dict[str, Any], path: Path, number: int) -> L:
    try:
        return kind.model_validate(line)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise _damaged(path, number, f"{field}: {problem['msg']}") from error


def _damaged(path: Path, number: int, problem: str) -> JournalError:
    return JournalError(
        f"line {number} is damaged: {problem}",
        where=str(path),
        cure="delete that line: its trial is then owed again",
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise JournalError(
            f"cannot be read: {error}", where=str(path), cure="restore it"
        ) from error
    return parsed


def _dump(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2)
