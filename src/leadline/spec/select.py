"""Which cells a word on the command line means."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from leadline.errors import SpecError
from leadline.spec.campaign import Cell
from leadline.units import parse_tokens

_SHOWN = 3


def select_cells(cells: Sequence[Cell], patterns: Sequence[str]) -> frozenset[str]:
    """Keys of the cells that any of the patterns means.

    A pattern is a cell's id, a deployment, or a label such as ``input_tokens=1k``; each may be a
    glob. Raises ``SpecError`` for one that means no cell.
    """
    chosen = {pattern: [c.key for c in cells if _means(pattern, c)] for pattern in patterns}
    for pattern, keys in chosen.items():
        if not keys:
            raise SpecError(
                f"{pattern!r} is no cell of the campaign",
                where="--only",
                cure=f"for example {', '.join(_near(pattern, cells))}; --dry-run lists all cells",
            )
    return frozenset(key for keys in chosen.values() for key in keys)


def _means(pattern: str, cell: Cell) -> bool:
    names = (cell.key, cell.deployment, *cell.labels)
    if any(name == pattern or fnmatchcase(name, pattern) for name in names):
        return True
    return any(_is_label(pattern, label) for label in cell.labels)


def _is_label(pattern: str, label: str) -> bool:
    """As it stands in the file: with its group, its token count with a suffix."""
    field, _, value = label.partition("=")
    path, _, wanted = pattern.partition("=")
    if not wanted or field not in (path, path.partition(".")[2]):
        return False
    return fnmatchcase(value, wanted) or (field.endswith("_tokens") and _count(wanted) == value)


def _count(text: str) -> str | None:
    try:
        return str(parse_tokens(text))
    except ValueError:
        return None


def _near(pattern: str, cells: Sequence[Cell]) -> list[str]:
    names = list(dict.fromkeys(name for cell in cells for name in (*cell.labels, cell.key)))
    return get_close_matches(pattern, names, n=_SHOWN, cutoff=0.4) or names[:_SHOWN]
