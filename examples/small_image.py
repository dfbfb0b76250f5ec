r"""An image of the embedded engine and its model, made of this machine's own files: no registry.

    python examples/small_image.py | docker import \
        --change 'ENV PATH=/usr/local/bin:/bin' --change 'ENV PYTHONPATH=/packages' \
        - leadline-small:1

Everything lies in it where it lies here, so a path of the one is a path of the other: a pod, into
which nothing of this machine is mounted, finds the model too. About 300 MB, in a few seconds.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from leadline.catalog.assets import asset_path

PROGRAMS = ("sh", "sleep")
"""What a pod's preStop runs."""
LINKS = {
    "usr/local/bin/python3": str(Path(sys.executable).resolve()),
    "packages/xllamacpp": str(Path(str(find_spec("xllamacpp").origin)).parent),  # type: ignore[union-attr]
}
LEFT_OUT = {"__pycache__", "test", "idlelib", "tkinter", "ensurepip", "site-packages"}
FILES = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}


def write_image(out: BinaryIO) -> None:
    """The root file system as a tar."""
    files = {path: path for path in _own_files()}
    programs = {Path("/bin", name): Path(str(shutil.which(name))) for name in PROGRAMS}
    files |= {path: path for path in _libraries([*files, *programs.values()])}
    with tarfile.open(fileobj=out, mode="w|", dereference=True) as tar:
        tar.addfile(_entry("tmp", tarfile.DIRTYPE, mode=0o1777))
        for name, target in LINKS.items():
            link = _entry(name, tarfile.SYMTYPE)
            link.linkname = target
            tar.addfile(link)
        for name, text in FILES.items():
            entry = _entry(name, tarfile.REGTYPE, mode=0o644)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        for at, path in sorted((files | programs).items()):
            tar.add(path, str(at), recursive=False)


def _own_files() -> Iterator[Path]:
    """The engine, what starts it, its model, and the Python that it runs under."""
    server = find_spec("leadline.engines.llamacpp_server")
    yield Path(str(server.origin))  # type: ignore[union-attr]
    yield asset_path("models", "smollm2")
    yield Path(sys.executable).resolve()
    release = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield from Path(sys.base_prefix, "lib").glob(f"lib{release}*.so*")
    for folder in (Path(sys.base_prefix, "lib", release), Path(LINKS["packages/xllamacpp"])):
        for path in folder.rglob("*"):
            inside = path.relative_to(folder).parts
            if path.is_file() and not LEFT_OUT & set(inside):
                yield path


def _libraries(paths: Iterable[Path]) -> Iterator[Path]:
    """What the dynamic loader would take, where it looks for it."""
    binaries = [str(path) for path in paths if path.open("rb").read(4) == b"\x7fELF"]
    command = [str(shutil.which("ldd")), *binaries]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for found in sorted(set(re.findall(r"(/\S+) \(0x", told))):
        yield Path(found)


def _entry(name: str, kind: bytes, mode: int = 0o755) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


if __name__ == "__main__":
    write_image(sys.stdout.buffer)
