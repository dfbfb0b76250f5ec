from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from tests.prompts.tokenizers_for_tests import real_text, save

from leadline.cli import main


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("LEADLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save("llama3", tmp_path / "model")
    Path("a.txt").write_text(real_text()[:40_000], encoding="utf-8")
    Path("b.txt").write_text(real_text()[40_000:90_000], encoding="utf-8")
    return ["prompt", "--tokenizer", "model", "--corpus", "a.txt", "--corpus", "b.txt"]


def call(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)


def test_ids_are_written_exactly_and_described_as_data(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--tokens", "10k", "--needles", "2", "--seed", "7", "--out", "p.json", "--json"]
    assert call([*options, *asked]) == 0
    facts = json.loads(capsys.readouterr().out)
    body = json.loads(Path("p.json").read_text(encoding="utf-8"))
    assert len(body["prompt"]) == facts["tokens"] == 10_000
    packed = np.asarray(body["prompt"], "<u4").tobytes()
    assert facts["ids_sha256"] == hashlib.sha256(packed).hexdigest()
    assert len(facts["needles"]) == 2
    assert facts["corpus"]["source"] == "a.txt + b.txt"
    assert facts["bytes"] == Path("p.json").stat().st_size
    assert (body["max_tokens"], body["temperature"]) == (200, 0)
    assert "model" not in body


@pytest.mark.parametrize("form", ["text", "chat"])
def test_text_encodes_to_the_ids_of_the_same_seed(
    form: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--tokens", "5000", "--needles", "3", "--model", "m", "--out"]
    assert call([*options, *asked, "ids.json"]) == 0
    assert call([*options, *asked, "text.json", "--as", form]) == 0
    shown = capsys.readouterr().out
    assert f"text.json: exactly 5,000 tokens as {form}" in shown
    assert shown.count("needle ") == 6
    body = json.loads(Path("text.json").read_text(encoding="utf-8"))
    text = body["messages"][0]["content"] if form == "chat" else body["prompt"]
    ids = json.loads(Path("ids.json").read_text(encoding="utf-8"))["prompt"]
    assert save("llama3", tmp_path / "model").encode(text) == ids
    assert body["model"] == "m"


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (["--tokens", "0"], "must be at least 1"),
        (["--tokens", "1M"], "text is never repeated"),
        (["--tokens", "9", "--needles", "1"], "leave no room for 1 needle"),
        (["--tokens", "9", "--corpus", "none.txt"], "no such corpus file"),
        (["--tokens", "9", "--corpus", "a.txt"], "a.txt is given twice"),
        (["--tokens", "9", "--tokenizer", "none"], "no tokenizer.json there"),
        (["--tokens", "9", "--out", "none/p.json"], "cannot be written"),
    ],
)
def test_wrong_use_is_one_message(
    changed: list[str], what: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*options, "--out", "p.json", *changed]) == 3
    error = capsys.readouterr().err
    assert what in error
    assert "Traceback" not in error
    assert not Path("p.json").exists()
