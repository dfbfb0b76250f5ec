"""Deployments that took turns, beside each other: in words, and as a terminal table."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from leadline.verdict.schema import Ratio

COLUMNS = ("input", "measure", "deployment", "to", "ratio", "95 % interval", "pairs")
CAPTION = (
    "Ratio of the times: below 1, the deployment is faster than the one it is held to. Geometric "
    "mean over pairs of the same prompt, taken in turn; the interval draws whole pairs again."
)
_MEASURES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "whole answer"}


def word_ratio(ratio: Ratio) -> tuple[str, ...]:
    """One row, by ``COLUMNS``."""
    workload = ratio.workload.removeprefix("input_tokens=")  # lengths, where nothing else differs
    place = (workload, _MEASURES[ratio.measure], ratio.deployment, ratio.baseline)
    if ratio.ratio is None:
        return (*place, "not comparable", ratio.refused, "0")
    found = ratio.ratio
    interval = (
        f"{found.low:.2f} to {found.high:.2f}"
        if found.low is not None and found.high is not None
        else f"none: {found.refused}; single pairs {ratio.lowest:.2f} to {ratio.highest:.2f}"
    )
    return (*place, f"{found.value:.2f}", interval, str(ratio.pairs))


def render_comparison(ratios: Sequence[Ratio]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Comparison", caption=CAPTION)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("ratio", "pairs") else "left")
    for ratio in ratios:
        table.add_row(*word_ratio(ratio))
    return table
