"""A recorded day is read in the forms of the public traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leadline.errors import SpecError
from leadline.prompts.trace import TraceLine, read_trace, require_blocks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def test_mooncakes_form_is_read_in_the_order_of_its_times(path: Path) -> None:
    lines = [
        {"timestamp": 5000, "input_length": 20, "output_length": 2, "hash_ids": [4, 7]},
        {"timestamp": 3500, "input_length": 10, "output_length": 1},
        {"timestamp": 3500, "input_length": 5, "output_length": 3},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert read_trace(path) == [
        TraceLine(0, 10, 1),
        TraceLine(0, 5, 3),
        TraceLine(1.5, 20, 2, (4, 7)),
    ]


def test_azures_form_has_calendar_times(path: Path) -> None:
    lines = [
        {"TIMESTAMP": time, "ContextTokens": 30, "GeneratedTokens": 4}
        for time in ("2023-11-16 18:17:03.9799600", "2023-11-16 18:17:04.2299600")
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [line.at_s for line in read_trace(path)] == pytest.approx([0, 0.25])
    assert read_trace(path)[1][1:] == (30, 4, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the trace is empty"),
        ('{"timestamp": 0}\n', "line 1 is not a request: one of input_length"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1}\noops\n', "line 2"),
        ("[1]\n", "line 1 is not a request: not an object"),
        ('{"TIMESTAMP": "noon", "ContextTokens": 1, "GeneratedTokens": 1}\n', "noon"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": ["a"]}', "line 1"),
    ],
)
def test_a_bad_trace_is_named_with_its_line(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_trace(path)


def test_a_missing_trace_is_no_traceback(path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_trace(path)


@pytest.mark.parametrize(("tokens", "hashes"), [(512, 1), (513, 2), (1, 1), (9, 0)])
def test_each_block_has_a_hash_or_the_request_has_none(
    path: Path, tokens: int, hashes: int
) -> None:
    require_blocks(path, [TraceLine(0, tokens, 1, tuple(range(hashes)))], 512)
    if hashes:
        with pytest.raises(SpecError, match=f"blocks of {tokens + 1} tokens need 1|need {tokens}"):
            require_blocks(path, [TraceLine(0, tokens, 1, (0,) * (hashes + 1))], tokens + 1)
