"""Write ``catalog/facts`` from the engines' distributions: ``python -m facts [vllm] [sglang]``.

Run by hand when an engine has released; the result is committed. Needs the ``facts`` extra.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from facts.fetch import Source, fetch_engine
from facts.logs import read_logs
from facts.merge import merge
from facts.metrics import read_metrics
from facts.sglang import read_sglang
from facts.vllm import read_vllm

READERS = {"vllm": read_vllm, "sglang": read_sglang}
TARGET = Path(__file__).parents[1] / "src/leadline/catalog/facts"
CACHE = Path(tempfile.gettempdir()) / "leadline-facts"


def main(names: list[str]) -> None:
    for engine in names or READERS:
        found = fetch_engine(engine, CACHE)
        readings = [_read(engine, folder) for _, folder in found]
        content = {"versions": [_version(source) for source, _ in found]} | merge(readings)
        (TARGET / f"{engine}.json").write_text(_lines(content), "utf-8")
        print(f"{engine}: {len(found)} releases, {len(content['cli'])} arguments")


def _read(engine: str, folder: Path) -> dict[str, dict[str, Any]]:
    named = {"metrics": read_metrics(folder), "logs": read_logs(folder, engine)}
    return READERS[engine](folder) | named


def _version(source: Source) -> dict[str, str]:
    return {
        "version": source.version,
        "released": source.released,
        "file": source.file,
        "sha256": source.sha256,
    }


def _lines(content: dict[str, Any]) -> str:
    """JSON with one name a line, so that a new release is a readable difference."""
    parts = []
    for section, entries in content.items():
        if isinstance(entries, list):
            rows = [_json(entry) for entry in entries]
            parts.append(f'"{section}": [\n' + ",\n".join(rows) + "\n]")
        else:
            rows = [f"{_json(name)}: {_json(entry)}" for name, entry in entries.items()]
            parts.append(f'"{section}": {{\n' + ",\n".join(rows) + "\n}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    main(sys.argv[1:])
