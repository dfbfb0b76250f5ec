from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

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
        ([], "no length: none"),
        (["--tokens", "9", "--lengths", "9"], "several lengths: tokens, lengths"),
        (["--lengths", "normal:1..2"], "is no distribution"),
        (["--tokens", "6k", "--count", "9"], "9 prompts without overlap need 54,000 tokens"),
        (["--tokens", "900", "--count", "2", "--shared-prefix", "x"], "not a token count"),
        (["--tokens", "900", "--count", "2", "--hit-rate", "101%"], "is not a share"),
        (["--tokens", "900", "--count", "2", "--hit-rate", "0.5"], "is not a share"),
        (["--tokens", "900", "--count", "2", "--hit-rate", "90%"], "cannot be reached"),
        (["--session", "9", "--hit-rate", "1%"], "does not go with sessions"),
        (["--session", "9", "--chat"], "no chat template there"),
        (["--session", "9", "--chat", "--needles", "1"], "hide no passkeys"),
        (["--session", "900,800"], "no longer than the one before it"),
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


def read_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def test_many_prompts_are_json_lines_without_overlap(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--lengths", "uniform:1000..2000", "--count", "5", "--needles", "1"]
    assert call([*options, *asked, "--out", "p.jsonl", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    bodies = read_lines("p.jsonl")
    counts = [item["tokens"] for item in facts["prompts"]]
    assert [len(body["prompt"]) for body in bodies] == counts
    assert all(1000 <= count <= 2000 for count in counts)
    assert len({tuple(body["prompt"][:20]) for body in bodies}) == 5
    assert facts["schema"] == "leadline.prompts/1"
    assert call([*options, *asked, "--out", "p.jsonl"]) == 0
    assert "5 prompts of exactly " in capsys.readouterr().out


def test_a_hit_rate_is_stated_exactly(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--tokens", "1600", "--count", "10", "--hit-rate", "60%", "--groups", "2"]
    assert call([*options, *asked, "--out", "p.jsonl", "--json"]) == 0
    cache = json.loads(capsys.readouterr().out)["expected_cache"]
    prompts = [body["prompt"] for body in read_lines("p.jsonl")]
    assert cache["cached_tokens"][:2] == [0, 0]
    for number, cached in enumerate(cache["cached_tokens"][2:], 2):
        assert prompts[number][:cached] == prompts[number - 2][:cached]
        assert prompts[number][: cached + 16] != prompts[number - 2][: cached + 16]
    assert sum(cache["cached_tokens"]) / 16_000 == cache["hit_rate"] == pytest.approx(0.6, abs=0.01)
    assert call([*options, *asked, "--out", "p.jsonl"]) == 0
    assert "hit rate " in capsys.readouterr().out


def test_a_shared_prefix_in_tokens_or_as_a_share(options: list[str]) -> None:
    for prefix, least in (("512", 512), ("50%", 480)):
        asked = ["--tokens", "1000", "--count", "3", "--shared-prefix", prefix, "--as", "text"]
        assert call([*options, *asked, "--out", "p.jsonl"]) == 0
        first, second, _ = (body["prompt"] for body in read_lines("p.jsonl"))
        same = next(
            n for n, pair in enumerate(zip(first, second, strict=False)) if len({*pair}) > 1
        )
        assert same > least


def test_a_session_grows_turn_by_turn(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--session", "500,900,1500", "--count", "2", "--out", "p.jsonl"]
    assert call([*options, *asked, "--json"]) == 0
    cache = json.loads(capsys.readouterr().out)["expected_cache"]
    prompts = [body["prompt"] for body in read_lines("p.jsonl")]
    assert [len(ids) for ids in prompts] == [500, 900, 1500] * 2
    assert prompts[4][:500] == prompts[3]
    assert cache["cached_tokens"] == [0, 496, 896, 0, 496, 896]


TURNS = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ m['role'] }}:\n{{ m['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)


@pytest.mark.parametrize(
    ("asked", "cached"),
    [
        (["--session", "500,900,1500"], [0, 496, 896, 0, 496, 896]),
        (["--tokens", "600", "--shared-prefix", "320"], [0, 320]),
    ],
)
def test_chats_that_share_text_are_exact_too(
    asked: list[str],
    cached: list[int],
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = {"chat_template": TURNS, "bos_token": "<|end|>"}
    Path("model/tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    asked = [*asked, "--count", "2", "--chat", "--output-tokens", "50", "--out", "p.jsonl"]
    assert call([*options, *asked, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    encode = save("llama3", tmp_path / "other").encode
    for body, told in zip(read_lines("p.jsonl"), facts["prompts"], strict=True):
        turns = "".join(f"{m['role']}:\n{m['content']}\n" for m in body["messages"])
        assert len(encode(f"<|end|>{turns}assistant:\n")) == told["tokens"]
    assert facts["expected_cache"]["cached_tokens"] == cached
    roles = [message["role"] for message in read_lines("p.jsonl")[-1]["messages"]]
    assert roles == (["user", "assistant"] * 2 + ["user"] if "--session" in asked else ["user"])


CONFIG = {
    "chat_template": "{{ bos_token }}user: {{ messages[0]['content'] | trim }}\nassistant:",
    "bos_token": "<|end|>",
    "add_bos_token": True,
}


@pytest.mark.parametrize("form", ["text", "chat"])
def test_what_the_server_adds_is_in_the_count(
    form: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model/tokenizer_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    asked = ["--tokens", "3000", "--as", form, "--needles", "2", "--json", "--out", "p.json"]
    assert call([*options, *asked]) == 0
    facts = json.loads(capsys.readouterr().out)
    (body,) = read_lines("p.json")
    text = f"<|end|>{body.get('prompt')}"
    if form == "chat":
        text = f"<|end|>user: {body['messages'][0]['content']}\nassistant:"
    assert len(save("llama3", tmp_path / "other").encode(text)) == facts["tokens"] == 3000


def test_without_a_template_it_is_said_that_it_comes_on_top(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*options, "--tokens", "900", "--chat", "--out", "p.json"]) == 0
    assert "no chat template found" in capsys.readouterr().out
