"""Rows that were loaded without a server, as a terminal shows them."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from leadline.report import offline_table


def test_a_narrow_terminal_shows_every_figure_whole_and_the_notes_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [
        ("context-32k", "32,704", "1", "pass", "✓✓✓✓", "2 min 01 s", "5.85 s", ""),
        (
            "caching-32k-small-pool",
            "max",
            "–",
            "fail",
            "––––",
            "–",
            "–",
            "no request fits",
        ),
    ]
    monkeypatch.setattr(offline_table, "word_rows", lambda _: iter(rows))
    screen, nothing = StringIO(), Any
    Console(width=80, file=screen).print(offline_table.render_rows(nothing))  # type: ignore[arg-type]
    lines = screen.getvalue().splitlines()
    assert any(all(word in line for word in rows[0][1:-1]) for line in lines)
    assert "caching-32k-small-pool: no request fits" in lines
    assert max(map(len, lines)) <= 80
