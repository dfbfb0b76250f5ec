"""The real SGLang 0.5.6.post2 server on a CPU, in a virtual environment outside the repository.

``python -m tests.real_engines.sglang_environment`` builds it, or goes on where a build stopped, and
prints the path of its Python. SGLang's own files stay as published. What it imports from its GPU
kernels and from vLLM comes from ``sglang_stand_ins``; for that reason a figure measured with this
environment says nothing about the speed of SGLang.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

VERSION = "0.5.6.post2"
REQUIREMENTS = Path(__file__).with_name("sglang_requirements.txt")
STAND_INS = Path(__file__).with_name("sglang_stand_ins")
SIZE_GB = 2.7

# Settings without which this version does not run, or hardly, on a CPU.
CPU_SETTINGS: Mapping[str, bool | int | float | str] = {
    "device": "cpu",
    "attention_backend": "torch_native",
    "grammar_backend": "none",
    "disable_overlap_schedule": True,
    "sleep_on_idle": True,  # else an idle scheduler takes a whole core
    "mem_fraction_static": 0.3,
}
CPU_ENV: Mapping[str, str] = {
    "SGLANG_USE_CPU_ENGINE": "1",
    "TORCH_COMPILE_DISABLE": "1",  # else the first request compiles C++ for minutes
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


def sglang_python() -> Path:
    """Python of the environment, built first if it is absent, unfinished or of other contents."""
    folder = environments() / f"sglang-{VERSION}"
    python = folder / "bin" / "python"
    with _alone(folder):
        if _read_stamp(folder) != _digest():
            _build(folder, python)
    return python


def environments() -> Path:
    """``LEADLINE_TEST_ENGINES``, or a folder of the user's own."""
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(os.environ.get("LEADLINE_TEST_ENGINES") or home / "leadline" / "test-engines")


def _build(folder: Path, python: Path) -> None:
    begun = time.monotonic()
    _say(f"building SGLang {VERSION} in {folder} ({SIZE_GB} GB, about 5 minutes on 2 cores)")
    if not python.exists():
        _run(sys.executable, "-m", "venv", str(folder))
    _run(str(python), "-m", "pip", "install", "--no-deps", "--requirement", str(REQUIREMENTS))
    _install_stand_ins(folder)
    _run(str(python), "-c", "import sglang.srt.entrypoints.http_server")
    (folder / "stamp").write_text(_digest(), encoding="utf-8")
    _say(f"built in {time.monotonic() - begun:.0f} s, {_size_gb(folder):.1f} GB")


def _install_stand_ins(folder: Path) -> None:
    site = sysconfig.get_path("purelib", "venv", vars={"base": str(folder)})
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(STAND_INS, site, dirs_exist_ok=True, ignore=ignore)


def _run(*command: str) -> None:
    """Nice, since a developer is at work; what it prints goes where the progress goes."""
    environ = {**os.environ, **CPU_ENV, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(
        command, check=True, stdout=sys.stderr, env=environ, preexec_fn=lambda: os.nice(10)
    )


def _digest() -> str:
    """Of all that the environment is made from."""
    stand_ins = (path for path in STAND_INS.rglob("*") if path.suffix in {".py", ".pth"})
    files = [REQUIREMENTS, *sorted(stand_ins)]
    parts = [sys.version.encode(), *(path.read_bytes() for path in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _read_stamp(folder: Path) -> str:
    stamp = folder / "stamp"
    return stamp.read_text(encoding="utf-8") if stamp.exists() else ""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two sessions that want it at once: the second waits, and finds it built."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _size_gb(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e9


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.stdout.write(f"{sglang_python()}\n")
