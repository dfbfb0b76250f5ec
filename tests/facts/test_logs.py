"""The phrases that our tables wait for, by the releases whose sources hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
from facts.logs import list_phrases, read_logs

from leadline.catalog.engine_facts import load_facts

# Put together while printing, so that no source holds them as one text.
COMPOSED = {"Capture cuda graph begin", "Capture cuda graph end", "Uvicorn running on"}


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_phrase_of_the_tables_is_in_some_release(engine: str) -> None:
    facts = load_facts(engine)
    known = {phrase for version in facts.versions for phrase in facts.names("logs", version)}
    assert set(list_phrases(engine)) <= known | COMPOSED


@pytest.mark.parametrize("version", ["0.12.0", "0.32.0"])
def test_the_releases_that_were_run_print_what_we_wait_for(version: str) -> None:
    names = load_facts("vllm").names("logs", version)
    for phrase in ("KV cache size", "Maximum concurrency for", "Loading weights took"):
        assert phrase in names


def test_a_phrase_over_two_lines_is_one(tmp_path: Path) -> None:
    source = 'logger.info("GPU KV cache "\n            "size: %s tokens", n)\n'
    (tmp_path / "a.py").write_text(source)
    assert "KV cache size" in read_logs(tmp_path, "vllm")
