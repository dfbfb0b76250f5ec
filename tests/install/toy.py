"""A small package index in a folder: an engine of two wheels that pip installs for real."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from leadline.install.recipe import Order, Package, Recipe, Release

_BATCH = 60_000_000  # so large that each has a call of pip to itself


def write_wheel(folder: Path, name: str, version: str, code: str) -> None:
    stem = f"{name}-{version}"
    files = {
        f"{name}/__init__.py": code,
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{stem}.dist-info/RECORD"
    files[record] = "".join(f"{path},,\n" for path in [*files, record])
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def write_index(folder: Path) -> None:
    folder.mkdir()
    write_wheel(folder, "toyengine", "1.0", "VERSION = '1.0'\n")
    write_wheel(folder, "toyengine", "0.9", "VERSION = '0.8'\n")  # says it is another
    write_wheel(folder, "toytorch", "2.0", "")
    write_wheel(folder, "toyvision", "2.0", "")


def use_index(folder: Path, engines: Path) -> dict[str, str]:
    """The environment variables under which pip sees nothing but that index."""
    return {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
        "LEADLINE_ENGINES": str(engines),
    }


def order(version: str = "1.0", *, locked: bool = True) -> Order:
    recipe = Recipe.model_validate(
        {
            "package": "toyengine",
            "program": "bin/python",
            "version_check": ["bin/python", "-c", "import toyengine; print(toyengine.VERSION)"],
            "source": "this test",
            "named_as": {"name": "toy", "suffix": "+cpu", "why": "as vLLM"},
            "left_out": {"toyvision": "breaks it"},
            "releases": {version: release().model_dump()} if locked else {},
        }
    )
    packages = (Package("toytorch", "2.0", _BATCH + 1), Package("toyengine", version, _BATCH))
    return Order("toy", version, "cpu", recipe, packages if locked else ())


def release() -> Release:
    import sys

    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Release(python=python, disk_mb=100, disk_source="this test")
