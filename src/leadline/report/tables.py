"""The verdict of a run as terminal tables."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from leadline.prove.structural import TRIAL_PROOFS
from leadline.report.comparison_table import render_comparison
from leadline.report.load_table import render_loads
from leadline.report.offline_table import render_rows
from leadline.report.phrases import (
    NOTHING,
    STATUS_STYLES,
    cost_sentences,
    expectation_sentence,
    outlier_sentences,
    proof_outcomes,
    word_engine,
    word_length,
    word_limit,
    word_recall,
    word_spending,
    word_spread,
    word_status,
    word_tokens,
)
from leadline.report.search_table import print_searches
from leadline.units import show_seconds
from leadline.verdict import CellVerdict, DeploymentVerdict, RunVerdict

_MARKS = {"pass": ("✓", "green"), "fail": ("✗", "bold red"), "unknown": ("?", "yellow")}


def print_verdict(console: Console, verdict: RunVerdict) -> None:
    console.print(Text(f"{verdict.campaign}  run {verdict.run_id}", style="bold"))
    if verdict.searches:
        print_searches(console, verdict)
        _print_notes(console, verdict)
        return
    for item in verdict.deployments:
        cells = [cell for cell in verdict.cells if cell.deployment == item.key]
        singles = [cell for cell in cells if not cell.is_load]
        tables = [_cells_table(singles)] if singles and not item.is_offline else []
        loads = [render_loads(cell) for cell in cells if cell.is_load]
        console.print(_headline(item), *tables, *loads, *_results(item), sep="\n")
    if any(item.is_offline for item in verdict.deployments):
        console.print(render_rows(verdict))
    if any(not cell.is_load for cell in verdict.cells):
        console.print(f"\nproofs: {', '.join(TRIAL_PROOFS)}; times: median [lowest, highest]")
    if sentence := expectation_sentence(verdict):
        console.print(f"\n{sentence}")
    if verdict.comparisons:
        console.print(render_comparison(verdict.comparisons))
    for cost in verdict.target_costs:
        head, *lines = cost_sentences(cost)
        console.print(Text(f"\n{head}", style="bold"), *(f"  {line}" for line in lines), sep="\n")
    console.print(Group(*_finding_blocks(verdict)))
    _print_notes(console, verdict)


def _print_notes(console: Console, verdict: RunVerdict) -> None:
    notes = (*verdict.warnings, *outlier_sentences(verdict))
    console.print(Group(*(Text(f"! {text}", style="yellow") for text in notes)))
    if spent := word_spending(verdict):
        console.print(Text(f"\n{spent}"))


def print_runs(console: Console, rows: list[dict[str, str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("run", "campaign", "started", "state", "cells"):
        table.add_column(column)
    for row in rows:
        table.add_row(*(row[column] for column in ("run", "campaign", "started", "state", "cells")))
    console.print(table)


def _headline(item: DeploymentVerdict) -> Text:
    text = Text(f"\n{item.key}", style="bold")
    if not item.started:
        return text.append("  not started", style="not bold yellow")
    window = word_tokens(item.window_tokens) if item.window_tokens else "unknown window"
    started = f", ready in {show_seconds(item.start_s)}" if item.start_s else ""
    return text.append(f"  {item.engine}, {window}{started}", style="not bold default")


def _cells_table(cells: list[CellVerdict]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("input", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("proofs", no_wrap=True)
    for column in ("TTFT", "TPOT", "prefill\ntok/s", "recall"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell in cells:
        table.add_row(*_cell_row(cell))
    return table


def _cell_row(cell: CellVerdict) -> list[RenderableType]:
    status = Text(cell.status, style=STATUS_STYLES[cell.status])
    status.append(word_status(cell).removeprefix(cell.status), style="default")
    return [
        word_length(cell),
        status,
        _marks(cell),
        Text(word_spread(cell.ttft_s)),
        word_spread(cell.tpot_s, ranged=False),
        word_spread(cell.prefill_tokens_per_s, seconds=False, ranged=False),
        word_recall(cell.recall),
    ]


def _marks(cell: CellVerdict) -> Text:
    outcomes = proof_outcomes(cell)
    marks = [_MARKS.get(outcomes.get(name, ""), (NOTHING, "dim")) for name in TRIAL_PROOFS]
    return Text.assemble(*marks)


def _results(item: DeploymentVerdict) -> Iterator[Text]:
    """Two results, never mixed: what the engine serves, and how far the model's recall reaches."""
    if not item.started:
        return
    if item.lengths_tested:
        yield Text.assemble(
            "engine qualified up to    ", (word_tokens(item.qualified_tokens), "bold")
        )
    if item.recall_tested:
        yield Text.assemble(
            "model's effective length  ",
            (word_tokens(item.effective_tokens), "bold"),
            ("  (recall of 85.6 % or more up to it)", "dim"),
        )
    for outcome, text in word_engine(item):
        yield Text.assemble(_MARKS[outcome], f" {text}")
    for proof in item.limits:
        yield Text.assemble(_MARKS[proof.outcome], f" {word_limit(proof.name)}: {proof.observed}")


def _finding_blocks(verdict: RunVerdict) -> Iterator[Text]:
    for finding in verdict.findings:
        text = Text(f"\n{finding.code} {finding.title}", style="bold red")
        text.append(f"   {finding.cell or finding.deployment}\n", style="dim")
        text.append(f"  {finding.explanation}\n", style="default")
        for line in finding.evidence:
            text.append(f"  | {line}\n", style="dim")
        text.append(f"  cure: {finding.remedy}", style="default")
        yield text
