"""The Python files of every release of an engine, from its own distributions on the package index.

Nothing of an engine is imported, built or installed. One distribution at a time is downloaded,
checked against the index's SHA-256, unpacked to the files that hold facts, and deleted.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from packaging.version import Version
from pypi_simple import DistributionPackage, PyPISimple

OLDEST = {"vllm": "0.6.0", "sglang": "0.4.0"}
# Model code is most of a distribution, and holds no argument.
_SKIPPED = ("/models/", "/third_party/", "/tests/", "/test/", "/kernels/", "/layers/fused_moe/")


@dataclass(frozen=True)
class Source:
    version: str
    file: str
    sha256: str
    released: str
    """Date of the upload, ISO 8601."""


def fetch_engine(engine: str, cache: Path) -> list[tuple[Source, Path]]:
    """Each final release from ``OLDEST`` on, oldest first, with the folder of its sources."""
    found = []
    with PyPISimple() as index:
        for package in _releases(index, engine):
            folder = cache / engine / str(package.version)
            if not (folder / "source.json").exists():
                print(f"{engine} {package.version}: {package.filename}", flush=True)
                _fetch(index, package, engine, folder)
            found.append((Source(**json.loads((folder / "source.json").read_text())), folder))
    return found


def _releases(index: PyPISimple, engine: str) -> Iterator[DistributionPackage]:
    """The smallest distribution of each release: the sdist of vLLM, the wheel of SGLang."""
    smallest: dict[Version, DistributionPackage] = {}
    for package in index.get_project_page(engine).packages:
        if package.version is None or package.package_type not in ("sdist", "wheel"):
            continue
        version = Version(package.version)
        if version.is_prerelease or package.is_yanked or version < Version(OLDEST[engine]):
            continue
        kept = smallest.get(version)
        if kept is None or (package.size or 0) < (kept.size or 0):
            smallest[version] = package
    return (smallest[version] for version in sorted(smallest))


def _fetch(index: PyPISimple, package: DistributionPackage, engine: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = Path(scratch) / package.filename
        index.download_package(package, archive, verify=True)
        for path, content in _python_files(archive, engine):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    source = Source(
        version=str(package.version),
        file=package.filename,
        sha256=package.digests["sha256"],
        released=package.upload_time.date().isoformat() if package.upload_time else "",
    )
    (folder / "source.json").write_text(json.dumps(asdict(source)))


def _python_files(archive: Path, engine: str) -> Iterator[tuple[str, bytes]]:
    """(path below the engine's package, content)"""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as whole:
            for name in whole.namelist():
                if path := _wanted(name, engine):
                    yield path, whole.read(name)
        return
    with tarfile.open(archive) as whole:
        for member in whole:
            if member.isfile() and (path := _wanted(member.name, engine)):
                yield path, whole.extractfile(member).read()  # type: ignore[union-attr]


def _wanted(name: str, engine: str) -> str | None:
    parts = PurePosixPath(name).parts
    if not name.endswith(".py") or engine not in parts[:3] or any(s in name for s in _SKIPPED):
        return None
    path = PurePosixPath(*parts[parts.index(engine) + 1 :])
    return None if ".." in path.parts else str(path)
