"""pip as a subprocess: an argument list in, an error with its cure out."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

from leadline.errors import DeployError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class _Trouble(NamedTuple):
    pattern: str
    what: str
    cure: str


# Of pip 23 to 26, first match counts: without a network pip also says that nothing matches.
_TROUBLES = (
    _Trouble(
        r"No space left on device|Errno 28",
        "the disk is full",
        "free some space, or set LEADLINE_ENGINES to a folder on another disk; then run it again",
    ),
    _Trouble(
        r"NewConnectionError|Name or service not known|Temporary failure in name resolution"
        r"|Failed to establish a new connection|ReadTimeoutError|ProxyError|Connection refused"
        r"|Network is unreachable",
        "the package index cannot be reached",
        "check the network and pip's proxy and index settings; the same command goes on from here",
    ),
    _Trouble(
        r"Requires-Python|requires a different Python|is not a supported wheel on this platform",
        "a package has no build for this Python or platform",
        "give --python the program of a Python that the recipe names",
    ),
    _Trouble(
        r"ResolutionImpossible",
        "pip cannot resolve what this version asks for",
        "take a version with a lock: leadline engines list",
    ),
)
_VERSIONS = re.compile(
    r"Could not find a version that satisfies the requirement (?P<wanted>\S+)"
    r".*?\(from versions: (?P<versions>[^)]*)\)"
)


class Pip:
    """pip of one environment. ``needs``: what to do where the index lacks a version."""

    def __init__(self, folder: Path, needs: str = "") -> None:
        self.folder = folder
        self.needs = needs
        self.python = folder / "bin" / "python"
        self.temporary = folder / "tmp"
        """Where pip keeps what it has fetched: on the disk whose space was checked."""

    def install(self, requirements: Sequence[str], *options: str) -> None:
        """Raises ``DeployError`` saying what went wrong, with the last lines of pip."""
        self._run("install", "--no-compile", "--no-input", *options, *requirements)

    def uninstall(self, names: Sequence[str]) -> None:
        self._run("uninstall", "--yes", *names)

    def site_packages(self) -> Path:
        return next((self.folder / "lib").glob("python3.*/site-packages"))

    def installed(self) -> dict[str, str]:
        """Name to version of what was installed to its end: pip writes REQUESTED near the last."""
        return {
            fold(found.name): found.version
            for found in distributions(path=[str(self.site_packages())])
            if found.read_text("REQUESTED") is not None
        }

    def _run(self, verb: str, *arguments: str) -> None:
        self.temporary.mkdir(exist_ok=True)
        argv = [str(self.python), "-m", "pip", "--disable-pip-version-check", verb]
        process = subprocess.Popen(
            [*argv, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "TMPDIR": str(self.temporary)},
            preexec_fn=_die_with_parent,  # noqa: PLW1509  (else it would go on under the next)
            start_new_session=True,  # Ctrl-C reaches us, and we end it
        )
        try:
            printed, _ = process.communicate()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
        if process.returncode:
            raise explain_pip(printed, self.needs)


def explain_pip(printed: str, needs: str = "") -> DeployError:
    """What pip's output means, and what to do."""
    tail = "\n".join(f"  pip: {line}" for line in _telling(printed))
    for trouble in _TROUBLES:
        if re.search(trouble.pattern, printed):
            return DeployError(f"{trouble.what}\n{tail}", where="pip", cure=trouble.cure)
    if match := _VERSIONS.search(printed):
        return _no_such_version(match["wanted"], match["versions"], needs)
    return DeployError(
        f"pip failed\n{tail}", where="pip", cure="see pip's message; the same command goes on"
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def fold(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_python(version: str, given: str | None) -> Path:
    """The program of a Python of that version (``3.11``): as given, our own, or on ``PATH``."""
    for candidate in [given] if given else _candidates(version):
        if _version_of(candidate) == version:
            return Path(candidate)
    raise DeployError(
        f"{given} is Python {_version_of(given) or 'unknown'}, and the recipe was tried with "
        f"{version}"
        if given
        else f"no Python {version} on this machine",
        where="--python",
        cure=f"install Python {version} with its venv module (Debian: python{version}-venv) "
        "and give its program as --python",
    )


def _candidates(version: str) -> Iterator[str]:
    import sys

    yield sys.executable
    if found := shutil.which(f"python{version}"):
        yield found


def _version_of(program: str) -> str:
    """``3.11``; empty for what is no Python that starts."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        run = subprocess.run(
            [program, "-c", code], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip()


def _telling(printed: str) -> list[str]:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines)[-4:]


def _no_such_version(wanted: str, versions: str, needs: str) -> DeployError:
    name, _, version = wanted.partition("==")
    known = [each.strip() for each in versions.split(",") if each.strip() not in ("", "none")]
    near = sorted(known, key=lambda each: _distance(each, version))[:3]
    cure = (
        f"nearest there: {', '.join(near)}"
        if near
        else "check the network, and which index pip is configured for (pip config list)"
    )
    advice = f"{cure}; {needs}" if needs else cure
    return DeployError(f"pip finds no {name} {version}", where="pip", cure=advice)


def _distance(one: str, other: str) -> tuple[int, ...]:
    """Between versions, the first number weighing most."""
    numbers = [[int(part) for part in re.findall(r"\d+", each)][:4] for each in (one, other)]
    size = max(map(len, numbers))
    left, right = ([*each, *[0] * (size - len(each))] for each in numbers)
    return tuple(abs(a - b) for a, b in zip(left, right, strict=True))
