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
        config = Path(_bundle(arguments)) / "config.json"
        spec = json.loads(config.read_text())
        _soften(spec.get("process", {}))
        config.write_text(json.dumps(spec))
    runc = shutil.which("runc", path="/usr/sbin:/usr/bin") or "runc"
    os.execv(runc, ["runc", *arguments])  # noqa: S606


def _bundle(arguments: list[str]) -> str:
    for at, word in enumerate(arguments):
        if word in {"--bundle", "-b"}:
            return arguments[at + 1]
        if word.startswith("--bundle="):
            return word.partition("=")[2]
    return "."


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
