"""runc, asked for no more than this machine may give.

Some virtual machines lack CAP_SYS_RESOURCE: then limits above our own, and negative scores of the
out-of-memory killer, are refused. They are brought down to what is allowed.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> None:
    if {"create", "run"} & set(arguments):
        _rewrite(Path(_option(arguments, "--bundle", "-b") or ".") / "config.json", "process")
    elif "exec" in arguments and (process := _option(arguments, "--process", "-p")):
        _rewrite(Path(process))
    runc = shutil.which("runc", path="/usr/sbin:/usr/bin") or "runc"
    os.execv(runc, ["runc", *arguments])  # noqa: S606


def _option(arguments: list[str], *names: str) -> str:
    for at, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else arguments[at + 1]
    return ""


def _rewrite(file: Path, *keys: str) -> None:
    described = process = json.loads(file.read_text())
    for key in keys:
        process = process[key]
    _soften(process)
    file.write_text(json.dumps(described))


def _soften(process: dict[str, Any]) -> None:
    process["oomScoreAdj"] = max(0, process.get("oomScoreAdj") or 0)
    for names in (process.get("capabilities") or {}).values():
        names[:] = [name for name in names if name != "CAP_SYS_RESOURCE"]
    for limit in process.get("rlimits") or []:
        _, hard = resource.getrlimit(getattr(resource, limit["type"]))
        if hard != resource.RLIM_INFINITY:
            limit["hard"] = min(limit["hard"], hard)
            limit["soft"] = min(limit["soft"], limit["hard"])


if __name__ == "__main__":
    main(sys.argv[1:])
