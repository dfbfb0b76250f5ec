"""Loads on the real embedded engine: many requests at once, of many lengths."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.conftest import LEADLINE, Finish, Outcome, Start

from leadline.journal import Run

TWO_SLOTS = {"llamacpp": {"engine": "llamacpp", "settings": {"ctx_size": 1024, "parallel": 2}}}


def require_answered(outcome: Outcome, requests: int) -> dict[str, Any]:
    """The load of the only cell; on a busy machine the client may have been late, and says so."""
    (cell,) = outcome.report["cells"]
    load: dict[str, Any] = cell["load"]
    assert (load["sent"], load["answered"], load["failures"]) == (requests, requests, {})
    assert (cell["status"], cell["cause"]) in (("pass", ""), ("inconclusive", "client-bound"))
    assert outcome.code == (0 if cell["status"] == "pass" else 1)
    return load


@pytest.mark.engine
@pytest.mark.parametrize("form", ["ids", "chat"])
def test_a_load_of_mixed_lengths_is_answered_whole_and_its_prompts_share_no_text(
    form: str, campaign_file: Callable[..., Path], start: Start, finish: Finish
) -> None:
    workload = {
        "input_tokens": [64, 200],
        "output_tokens": {"uniform": [4, 8]},
        "prompt_as": form,
        "load": {"users": 2, "requests": 4},
    }
    path = campaign_file(deployments=TWO_SLOTS, workload=workload)
    outcome = finish(start("run", path))
    load = require_answered(outcome, 4)
    assert load["ttft_s"]["n"] == 4
    records = [record for record in Run(outcome.run).records() if record.purpose == "load"]
    assert [record.sent.input_tokens for record in records] == [64, 200, 64, 200]
    for record in records:
        usage = record.exchange.usage or {}
        assert usage["prompt_tokens"] == record.sent.input_tokens
        assert usage["completion_tokens"] == record.sent.output_tokens
    starts = sorted(record.sent.corpus_start for record in records)
    assert all(later - earlier > 5 * 200 for earlier, later in pairwise(starts))


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer and chat template of SmolLM2, as files."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    subprocess.run([*LEADLINE, "models", "make-tiny", str(folder)], check=True)
    return folder


@pytest.mark.engine
@pytest.mark.parametrize(
    "asked",
    [
        ("--shared-prefix", "150"),
        ("--shared-prefix", "150", "--prompt-as", "chat"),
        ("--turns", "3"),
    ],
)
def test_a_real_cache_finds_exactly_what_it_should(
    asked: tuple[str, ...], start: Start, finish: Finish, server_url: str, tokenizer_folder: Path
) -> None:
    outcome = finish(
        start(
            *("bench", "--url", server_url, "--model", "smollm2", "--concurrency", "1"),
            *("--tokenizer", tokenizer_folder, "--input-tokens", "240", "--output-tokens", "2"),
            *("--requests", "3", "--warmup", "1", *asked),
        )
    )
    require_answered(outcome, 3)
    (cell,) = outcome.report["cells"]
    assert (cell["cache"]["differing"], cell["cache"]["witness"]) == (0, "each request")
    assert cell["cache"]["cached_tokens"] >= cell["cache"]["expected_tokens"] > 0


@pytest.mark.engine
def test_a_replayed_trace_is_found_in_a_real_cache_as_on_its_day(
    start: Start, finish: Finish, server_url: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.jsonl"
    days = [(0, 96, [0, 1, 2]), (3000, 90, [0, 1, 3]), (6000, 64, [0, 5]), (9000, 64, [6, 5])]
    lines = [
        {"timestamp": at, "input_length": tokens, "output_length": 2, "hash_ids": ids}
        for at, tokens, ids in days
    ]
    trace.write_text("\n".join(map(json.dumps, lines)))
    outcome = finish(
        start(
            *("bench", "--url", server_url, "--model", "smollm2", "--tokenizer", tokenizer_folder),
            *("--trace", trace, "--trace-block-tokens", "32", "--warmup", "1"),
        )
    )
    require_answered(outcome, 4)
    (cell,) = outcome.report["cells"]
    cache = cell["cache"]
    # By chance a token more is the same; one slot remembers the prompt before alone.
    assert 64 + 32 <= cache["cached_tokens"] <= cache["replayed_tokens"] <= 64 + 32 + 3
    assert (cache["differing"], cache["witness"]) == (0, "each request")


@pytest.mark.engine
def test_a_chat_is_exact_by_the_template_that_is_rendered_here(
    start: Start, finish: Finish, server_url: str, tokenizer_folder: Path
) -> None:
    outcome = finish(
        start(
            *("prove", "--url", server_url, "--model", "smollm2", "--prompt-as", "chat"),
            *("--tokenizer", tokenizer_folder, "--input-tokens", "200", "--output-tokens", "24"),
            *("--no-limit-probes",),
        )
    )
    assert outcome.code == 0, outcome.stderr
    assert outcome.report["warnings"] == []
    for record in Run(outcome.run).records():
        assert (record.exchange.usage or {})["prompt_tokens"] == record.sent.input_tokens
    (cell,) = outcome.report["cells"]
    assert cell["server"]["samples"] >= 2


@pytest.mark.engine
def test_a_sweep_of_a_running_server_ends_with_what_it_measured(
    start: Start, finish: Finish, server_url: str
) -> None:
    outcome = finish(
        start(
            *("bench", "--url", server_url, "--model", "smollm2", "--sweep", "users=1,2"),
            *("--input-tokens", "64", "--output-tokens", "4", "--requests", "2"),
        )
    )
    (cell,) = outcome.report["cells"]
    steps = cell["sweep"]["steps"]
    assert [(step["level"], step["load"]["answered"]) for step in steps] == [(1, 2), (2, 2)]
    assert outcome.code == (0 if cell["status"] == "pass" else 1), outcome.stderr
