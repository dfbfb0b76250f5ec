"""``catalog/lint.toml``: what the facts of a release do not say by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from leadline.catalog.engine_facts import parse_release
from leadline.catalog.reading import read_table

Row = Mapping[str, str]


def find_successor(engine: str, name: str) -> Row | None:
    rows = read_table("lint")["successor"]
    return next((row for row in rows if (row["engine"], row["name"]) == (engine, name)), None)


def list_rows(kind: str, engine: str, version: str) -> Iterator[Row]:
    """``needs`` or ``ignored`` rows that hold for a release."""
    release = parse_release(version)
    for row in read_table("lint")[kind]:
        first, gone = row.get("since", "0"), row.get("until")
        holds = release >= parse_release(first) and not (gone and release >= parse_release(gone))
        if row["engine"] == engine and holds:
            yield row


def translate(name: str, engine: str) -> str | None:
    """What the other engine's setting is called by this one."""
    forward: Mapping[str, str] = read_table("lint")["translations"]["vllm_to_sglang"]
    table = forward if engine == "sglang" else {new: old for old, new in forward.items()}
    return table.get(name)
