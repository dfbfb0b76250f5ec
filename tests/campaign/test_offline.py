"""Deployments of kind ``offline``: the rendered script with an engine that is all our own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

# What the script asks of vLLM; a prompt of 1,300 tokens ends the process, one of 1,200 is refused.
VLLM = """
import os, time
from types import SimpleNamespace as Some

class Tokenizer:
    def __len__(self):
        return 50000
    def encode(self, text, add_special_tokens):
        return list(range(100, 1100))

class SamplingParams:
    def __init__(self, **asked):
        self.max_tokens = asked["max_tokens"]

class LLM:
    def __init__(self, model, **settings):
        print("INFO: GPU KV cache size: 4,096 tokens", flush=True)
        if model == "broken":
            raise ValueError("No available memory for the cache blocks")
        if model == "short":
            raise ValueError("1 validation error\\n  Value error, User-specified max_model_len "
                "(2097152) is greater than the derived max_model_len (max_position_embeddings="
                "1048576.0 or model_max_length=None in model's config.json).")
        if model == "slow":
            time.sleep(600)
        self.settings = settings
    def get_tokenizer(self):
        return Tokenizer()
    def generate(self, prompts, sampling, use_tqdm):
        ids = [prompt["prompt_token_ids"] for prompt in prompts]
        if len(ids[0]) == 1300:
            print("Killed by the test", flush=True)
            os._exit(3)
        if len(ids[0]) == 1200:
            raise ValueError("prompt is longer than the maximum model length")
        text = " the old house near a river" if len(ids[0]) != 900 else ""
        return [self.answer(each, sampling.max_tokens, text) for each in ids]
    def answer(self, ids, tokens, text):
        short = len(ids) == 1100
        done = Some(token_ids=[7] * (tokens - short), finish_reason="length", text=text)
        return Some(prompt_token_ids=ids, num_cached_tokens=0, outputs=[done])
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python that has such an engine."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "vllm.py").write_text(VLLM)
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


def command(tmp_path: Path, python: Path, model: str = "tiny", **parts: Any) -> list[str]:
    target = {"kind": "offline", "executable": str(python), **parts.pop("target", {})}
    campaign = {
        "name": "tables",
        "model": model,
        "deployments": {
            "8k": {
                "engine": "vllm==0.32.0",
                "target": target,
                "settings": {"max_model_len": "8K", "max_num_seqs": 2},
            }
        },
        "workload": {"input_tokens": 800, "output_tokens": 8, "repeats": 2, "needles": 0},
        **parts,
    }
    file = tmp_path / "campaign.yaml"
    file.write_text(json.dumps(campaign), encoding="utf-8")
    runs = str(tmp_path / "runs")
    return [sys.executable, "-m", "leadline.cli", "run", str(file), "--json", "--runs", runs]


def run(*arguments: Any, **parts: Any) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        command(*arguments, **parts), capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_every_row_is_proven_and_the_load_is_timed(tmp_path: Path, python: Path) -> None:
    matrix = {"workload.input_tokens": [800, 2000, "max"]}
    code, report, stderr = run(tmp_path, python, matrix=matrix)
    assert code == 0, stderr
    assert [cell["input_tokens"] for cell in report["cells"]] == [800, 2000, 8184]
    for cell in report["cells"]:
        assert cell["status"] == "pass"
        assert cell["ttft_s"] is None  # nobody saw the first token
        assert cell["e2e_s"]["median"] > 0
        for trial in cell["trials"]:
            assert [proof["outcome"] for proof in trial["proofs"]] == ["pass"] * 4
    (deployment,) = report["deployments"]
    assert deployment["start_s"] > 0
    assert deployment["qualified_tokens"] == 8184
    assert deployment["words"]["figures"]["kv_tokens"] == 4096
    (written,) = (tmp_path / "runs").glob("*/*/report.md")
    assert "| 8k | 8,184 | 2 | pass | ✓✓✓✓ |" in written.read_text(encoding="utf-8")


def test_each_failure_is_the_result_of_its_row_alone(tmp_path: Path, python: Path) -> None:
    matrix = {"workload.input_tokens": [800, 900, 1100, 1200, 1300, 1400]}
    code, report, stderr = run(tmp_path, python, matrix=matrix)
    found = {cell["input_tokens"]: (cell["status"], cell["cause"]) for cell in report["cells"]}
    assert found == {
        800: ("pass", ""),
        900: ("fail", "wrong-answer"),
        1100: ("fail", "truncated"),
        1200: ("fail", found[1200][1]),
        1300: ("fail", found[1300][1]),
        1400: ("pass", ""),
    }, stderr
    (deployment,) = report["deployments"]
    assert deployment["starts"] == 2
    assert code == 2


def test_a_model_that_does_not_load_fails_every_row_with_its_words(
    tmp_path: Path, python: Path
) -> None:
    code, report, _ = run(tmp_path, python, "broken")
    assert code == 2
    (finding,) = report["findings"]
    assert finding["cause"] == "oom"
    assert "No available memory for the cache blocks" in finding["evidence"][0]


def test_the_whole_error_of_a_load_reaches_the_rules(tmp_path: Path, python: Path) -> None:
    """What names the cause stands on its second line."""
    code, report, _ = run(tmp_path, python, "short")
    assert code == 2
    assert report["findings"][0]["cause"] == "exceeds_trained_context"


def test_ctrl_c_ends_the_script(tmp_path: Path, python: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, python, "slow"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not any("KV cache" in log.read_text() for log in tmp_path.rglob("server.log")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    scripts = psutil.Process(process.pid).children(recursive=True)
    assert scripts
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not any(script.is_running() for script in scripts)


def test_a_load_that_takes_too_long_is_ended(tmp_path: Path, python: Path) -> None:
    code, report, _ = run(tmp_path, python, "slow", timeouts={"start_s": 3})
    assert code == 2
    assert report["findings"][0]["cause"] == "start_timeout"


@pytest.mark.parametrize(
    ("workload", "where"),
    [
        ({"needles": 2}, "workload.needles"),
        ({"needles": 0, "prompt_as": "chat"}, "workload.prompt_as"),
        ({"needles": 0, "load": {"users": 2}}, "workload.load"),
    ],
)
def test_what_only_a_server_can_be_asked_is_refused(
    tmp_path: Path, python: Path, workload: dict[str, Any], where: str
) -> None:
    code, _, stderr = run(tmp_path, python, workload={"input_tokens": 800, **workload})
    assert code == 3
    assert where in stderr
