"""What was loaded without a server, a row each: nobody saw a first token."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from leadline.report.phrases import (
    NOTHING,
    STATUS_STYLES,
    proof_signs,
    word_batch,
    word_expected,
    word_length,
    word_spread,
)
from leadline.units import show_seconds
from leadline.verdict import CellVerdict, DeploymentVerdict, RunVerdict

COLUMNS = ("row", "input", "prompts", "verdict", "proofs", "load", "generate", "notes")
_STYLES: dict[str, str] = {**STATUS_STYLES}
_NUMBERS = ("input", "prompts", "load", "generate")


def word_rows(verdict: RunVerdict) -> Iterator[tuple[str, ...]]:
    """By ``COLUMNS``; ``load`` is the time until the engine is ready, compilation included."""
    for item in verdict.deployments:
        for cell in verdict.cells if item.is_offline else ():
            if cell.deployment == item.key:
                yield _row(item, cell)


def render_rows(verdict: RunVerdict) -> Group:
    """The notes stand below: in a terminal there is no room beside so many columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Loaded offline")
    for column in COLUMNS[:-1]:
        table.add_column(
            column,
            justify="right" if column in _NUMBERS else "left",
            overflow="fold",
            no_wrap=column != "row",
        )
    rows = list(word_rows(verdict))
    for *words, _ in rows:
        table.add_row(
            *(Text(word, style=_STYLES.get(word.partition(",")[0], "")) for word in words)
        )
    return Group(table, *(Text(f"{name}: {note}") for name, *_, note in rows if note))


def _row(item: DeploymentVerdict, cell: CellVerdict) -> tuple[str, ...]:
    return (
        item.key,
        word_length(cell),
        word_batch(cell),
        f"{cell.status}{word_expected(cell)}",
        "".join(proof_signs(cell)),
        show_seconds(item.start_s) if item.start_s else NOTHING,
        word_spread(cell.e2e_s, ranged=False),
        cell.reason,
    )
