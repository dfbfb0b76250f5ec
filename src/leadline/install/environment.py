"""An environment from an order to its stamp: resumable at any step, never two at once."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from leadline.engines.installed import STAMP, Installed, engines_folder, list_installed, write_stamp
from leadline.errors import DeployError, SpecError
from leadline.install.pip import Pip, find_python, fold
from leadline.install.recipe import Order, Package
from leadline.units import show_bytes

_MB = 10**6
# One call of pip costs about a second; a call that is killed loses what it had fetched.
_BATCH_BYTES = 100 * _MB
_CHECK_TIMEOUT_S = 600
# An engine that is only asked for its version must not talk to anybody.
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
# Even where the user's environment forbids it, as that of many containers does: each process of an
# engine that has to compile all it imports starts twice as slowly (vLLM 0.32: 15.5 against 7.4 s).
_KEEP_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}


class Progress(NamedTuple):
    """What is being done now."""

    phase: str
    text: str
    done_bytes: int = 0
    total_bytes: int = 0
    remaining_s: float | None = None
    """From the bytes fetched so far; ``None`` before anything was."""


OnProgress = Callable[[Progress], None]


def install(order: Order, python: str | None, on_progress: OnProgress) -> Installed:
    """Make the environment, or go on with it; one that is ready is returned as it is.

    Raises ``DeployError`` for everything that the machine or the network is short of.
    """
    folder = engines_folder() / f"{order.engine}-{order.version}-{order.device}"
    with _locked(folder):
        if ready := _find_ready(folder):
            return ready
        require_space(order, folder)
        program = find_python(order.release.python, python) if order.release else python
        place = str(folder / order.recipe.program)
        installed = Installed(
            order.engine, order.version, order.device, "unfinished", folder, place
        )
        _make_venv(installed, str(program or sys.executable), on_progress)
        pip = Pip(folder, order.release.needs if order.release else "")
        _install_packages(order, pip, on_progress)
        _finish_packages(order, pip)
        on_progress(Progress("check", f"asking {order.engine} for its version"))
        ready = replace(
            installed,
            state="ready",
            reported_version=ask_version(order, folder),
            size_bytes=_size(folder),
        )
        write_stamp(ready)
        return ready


def remove(chosen: Sequence[Installed]) -> None:
    """Take environments away. The stamp goes last: one killed in between is still ours."""
    for one in chosen:
        with _locked(one.folder):
            for path in one.folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != STAMP:
                    path.unlink()
            shutil.rmtree(one.folder)


def choose(pin: str, device: str | None) -> list[Installed]:
    """The environments that a pin means; ``SpecError`` where there is none."""
    engine, _, version = pin.partition("==")
    chosen = [
        one
        for one in list_installed()
        if one.engine == engine and version in ("", one.version) and device in (None, one.device)
    ]
    if not chosen:
        raise SpecError(
            f"{pin} is not installed", where=str(engines_folder()), cure="leadline engines list"
        )
    return chosen


def require_space(order: Order, folder: Path) -> None:
    """``DeployError`` where the disk cannot hold what the recipe is known to need."""
    if order.release is None:
        return
    batches = batch(order.packages)
    largest = max(map(_download_bytes, batches), default=0)
    needed = order.release.disk_mb * _MB + largest - _size(folder)
    free = shutil.disk_usage(_existing(folder)).free
    if free < needed:
        raise DeployError(
            f"{order.name} on {order.device} needs {show_bytes(needed)} here, "
            f"{show_bytes(free)} are free",
            where=str(folder.parent),
            cure="free some space, or set LEADLINE_ENGINES to a folder on another disk",
        )


def batch(packages: Sequence[Package]) -> list[list[Package]]:
    """The packages in calls of pip, the largest first: what is missing there shows at once."""
    batches: list[list[Package]] = []
    size = _BATCH_BYTES
    for package in sorted(packages, key=lambda each: -each.download_bytes):
        if size + package.download_bytes > _BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(package)
        size += package.download_bytes
    return batches


def ask_version(order: Order, folder: Path) -> str:
    """The version that the engine says it has; ``DeployError`` if it does not run or is another."""
    said, complaint = _run_check(order, folder)
    if said.startswith(order.version):
        return said
    raise DeployError(
        f"installed, but {order.engine} does not run: {complaint or f'it says it is {said!r}'}",
        where=str(folder),
        cure=f"leadline engines remove {order.name} --device {order.device}, then install "
        "again; a version with a lock is the surest",
    )


def _run_check(order: Order, folder: Path) -> tuple[str, str]:
    """The last line that the check printed, and why it failed if it did."""
    program, *arguments = order.recipe.version_check
    try:
        run = subprocess.run(
            [str(folder / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_CHECK_TIMEOUT_S,
            env={**os.environ, **_QUIET, **_KEEP_BYTECODE},
            cwd=folder,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if run.returncode:
        return "", (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
    return (run.stdout.strip().splitlines() or [""])[-1], ""


def _find_ready(folder: Path) -> Installed | None:
    return next(
        (one for one in list_installed() if one.folder == folder and one.state == "ready"), None
    )


def _make_venv(installed: Installed, python: str, on_progress: OnProgress) -> None:
    """The stamp comes first, so that even a killed install is known as ours."""
    folder = installed.folder
    if folder.exists() and not (folder / STAMP).exists() and any(folder.iterdir()):
        raise DeployError(
            "this folder is there and not ours", where=str(folder), cure="move it away"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_stamp(installed)
    except OSError as error:
        raise DeployError(
            f"cannot be written: {error.strerror}",
            where=str(folder),
            cure="set LEADLINE_ENGINES to a folder that can be written",
        ) from error
    pip_is_there = any((folder / "lib").glob("python3.*/site-packages/pip/__main__.py"))
    if pip_is_there and (folder / "bin" / "python").exists():
        return
    on_progress(Progress("environment", f"making an environment of {python}"))
    run = subprocess.run(
        [python, "-m", "venv", str(folder)], capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise DeployError(
            f"no environment can be made: {(run.stdout + run.stderr).strip()[-300:]}",
            where=python,
            cure="install Python's venv module (Debian: apt-get install python3-venv)",
        )


def _install_packages(order: Order, pip: Pip, on_progress: OnProgress) -> None:
    if not order.packages:
        on_progress(
            Progress("packages", f"{order.recipe.package} {order.version}, as pip resolves")
        )
        pip.install([f"{order.recipe.package}=={order.version}"])
        return
    there = pip.installed()
    owed = [each for each in order.packages if there.get(fold(each.name)) != each.version]
    clock = _Clock(order.packages, owed)
    for packages in batch(owed):
        on_progress(clock.progress(packages))
        # A package that a killed pip left half-written has no record to be uninstalled by.
        pip.install([each.pin for each in packages], "--no-deps", "--ignore-installed")
        clock.done(packages)


class _Clock:
    """How much is fetched, and how long the rest will take at that rate."""

    def __init__(self, packages: Sequence[Package], owed: Sequence[Package]) -> None:
        self._total = _download_bytes(packages)
        self._done = self._total - _download_bytes(owed)
        self._count = len(packages)
        self._fetched = 0
        self._start = time.perf_counter()

    def progress(self, packages: Sequence[Package]) -> Progress:
        names = ", ".join(f"{each.name} {each.version}" for each in packages[:2])
        more = f" and {len(packages) - 2} more" if len(packages) > 2 else ""  # noqa: PLR2004
        elapsed_s = time.perf_counter() - self._start
        left = self._total - self._done
        remaining_s = elapsed_s / self._fetched * left if self._fetched else None
        return Progress("packages", f"{names}{more}", self._done, self._total, remaining_s)

    def done(self, packages: Sequence[Package]) -> None:
        fetched = _download_bytes(packages)
        self._done += fetched
        self._fetched += fetched


def _finish_packages(order: Order, pip: Pip) -> None:
    """Take out what does harm, and give the engine the name it looks itself up by."""
    there = pip.installed()
    harmful = [name for name in order.recipe.left_out if fold(name) in there]
    if harmful:
        pip.uninstall(harmful)
    if named_as := order.recipe.named_as:
        _write_metadata(pip.site_packages(), named_as.name, order.version + named_as.suffix)
    shutil.rmtree(pip.temporary, ignore_errors=True)


def _write_metadata(site_packages: Path, name: str, version: str) -> None:
    folder = site_packages / f"{name}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(metadata, encoding="utf-8")
    (folder / "INSTALLER").write_text("leadline\n", encoding="utf-8")
    (folder / "RECORD").write_text("", encoding="utf-8")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """For one process at a time; the lock ends with its process, however it ends."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise DeployError(
            f"cannot be written: {error.strerror}",
            where=str(folder.parent),
            cure="set LEADLINE_ENGINES to a folder that can be written",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DeployError(
                "another leadline is installing or removing this environment",
                where=str(folder),
                cure="wait until it is done, then run the command again",
            ) from None
        yield


def _download_bytes(packages: Sequence[Package]) -> int:
    return sum(package.download_bytes for package in packages)


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    return sum(
        os.lstat(Path(where) / name).st_size
        for where, _, names in os.walk(folder)
        for name in names
    )


def _existing(folder: Path) -> Path:
    """The nearest parent that is there: its disk is the one that will be written to."""
    return next(path for path in (folder, *folder.parents) if path.exists())
