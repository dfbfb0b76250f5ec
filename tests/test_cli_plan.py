"""``leadline plan`` as it is typed: every mode, every answer, every wrong use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.factory import RunWriter, answered, make_clock, make_events, make_exchange

from leadline.cli import cli
from leadline.cli.main import main

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
ON_H200 = (SCOUT, "--hardware", "8xH200")
VLLM = (*ON_H200, "--engine", "vllm==0.12.0", "--set", "tensor_parallel_size=8")
HYBRID = ("--env", "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE=1")
NEURON = (
    "meta-llama/Llama-3.3-70B-Instruct", "--hardware", "trn2.48xlarge", "--engine", "neuron==0.4.1",
    "--set", "tensor_parallel_size=64", "--set", "max_num_seqs=4", "--set", "block_size=32",
    "--set", "num_gpu_blocks_override=4096", "--max-model-len", "32768",
    "--set", ('additional_config={"override_neuron_config": {"context_encoding_buckets": '
    '[2048, 8192, 32768], "prefix_buckets": [2048, 8192, 32768], '
    '"token_generation_buckets": [2048, 8192, 32768]}}'),
)  # fmt: skip
CAMPAIGN = """
name: scout
model: meta-llama/Llama-4-Scout-17B-16E-Instruct
hardware: 8xH200
deployments:
  vllm:
    engine: vllm==0.12.0
    settings: {tensor_parallel_size: 8, max_model_len: 2M}
matrix:
  workload.input_tokens: [100k, max]
"""


def plan(*argv: str) -> Result:
    return CliRunner(env={"COLUMNS": "150"}).invoke(
        cli, ["plan", *argv], standalone_mode=False, catch_exceptions=False
    )


def plan_json(*argv: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plan(*argv, "--json").stdout)
    return found


def refuse(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What is printed for wrong use; its exit code is 3 and there is no traceback."""
    with pytest.raises(SystemExit) as end:
        main(["plan", *argv])
    printed = capsys.readouterr()
    assert end.value.code == 3, printed
    assert "Traceback" not in printed.err
    assert printed.out == ""
    return printed.err


# --- modes ----------------------------------------------------------------------------------


def test_one_deployment_in_the_terminal() -> None:
    result = plan(*VLLM, *HYBRID, "--max-model-len", "8M", "--available-kv-gib", "89.71")
    assert result.return_value == 0
    for shown in ("fits(1)", "3,919,4", "1.86x", "weights", "RoPE cache", "GiB left", "prefill"):
        assert shown in result.stdout


def test_one_deployment_as_json_holds_every_promised_key() -> None:
    document = plan_json(*VLLM, "--max-model-len", "2M")
    assert document["schema"] == "leadline.plan/1"
    promised = {
        "": {"verdict", "binding", "kv", "limits", "memory", "time", "warnings"},
        "kv": {
            "bytes_per_token_per_gpu",
            "available_gib",
            "capacity_tokens",
            "max_concurrency",
            "max_request_tokens",
        },
        "limits": {"max_input_tokens"},
        "memory": {"terms", "weights_gib"},
    }
    for part, keys in promised.items():
        assert keys <= set(document[part] if part else document)
    for term in document["memory"]["terms"]:
        assert {"name", "gib", "inside_budget", "source", "kind"} <= set(term)
        assert term["source"]
    assert {"low", "expected", "high", "floor"} <= set(document["time"]["prefill_s"])
    assert isinstance(document["warnings"], list)
    assert document["binding"] is None
    assert document["limits"]["max_input_tokens"] == 2_096_952


def test_what_does_not_fit_names_the_flag_and_exits_with_1() -> None:
    result = plan(*VLLM, "--max-model-len", "5M", "--available-kv-gib", "89.71", "--json")
    document = json.loads(result.stdout)
    assert result.return_value == 1
    assert document["verdict"] == document["binding"]["code"] == "starts_but_unusable"
    assert document["kv"]["max_concurrency"] == pytest.approx(0.748, abs=1e-3)
    assert {"reason", "flag", "direction", "amount"} <= set(document["binding"])


def test_a_campaign_file_plans_every_cell(tmp_path: Path) -> None:
    path = tmp_path / "scout.yaml"
    path.write_text(CAMPAIGN)
    document = plan_json(str(path), "--price", "4")
    assert len(document["cells"]) == 2
    assert document["cost"] == pytest.approx(4 * document["device_hours"])
    shown = plan(str(path), "--price", "4")
    assert shown.return_value == 0
    assert "device hours" in shown.stdout
    assert "cost" in shown.stdout


def test_a_campaign_without_hardware_says_so(tmp_path: Path) -> None:
    path = tmp_path / "scout.yaml"
    path.write_text(CAMPAIGN.replace("hardware: 8xH200\n", ""))
    result = plan(str(path))
    assert result.return_value == 1
    assert "has no hardware" in result.stdout


def test_several_devices_are_a_table() -> None:
    argv = (SCOUT, "--hardware", "8xH100,8xH200", "--engine", "vllm==0.12.0", *VLLM[5:])
    assert set(plan_json(*argv)) == {"8xH100", "8xH200"}
    assert "Longest prompt" in plan(*argv).stdout


def test_a_search_ranks_rejects_and_says_how_fast_it_was() -> None:
    argv = (*VLLM, "--search", "--input-tokens", "2000000", "--set", "pipeline_parallel_size=1")
    document = plan_json(*argv)
    assert document["ranked"][0]["concurrent_requests"] > 0
    assert all(item["reason"] for item in document["rejected"])
    assert "a second" in plan(*argv).stdout


def test_the_smallest_that_fits() -> None:
    argv = ("Qwen/Qwen3-8B", "--hardware", "8xH100", "--engine", "vllm==0.19.0")
    document = plan_json(*argv, "--smallest", "--max-model-len", "32768")
    assert document["devices"] == 1
    assert 0.2 < document["lowest_utilization"] < 0.5
    assert "fewest devices: 1" in plan(*argv, "--smallest", "--max-model-len", "32768").stdout


def test_a_page_with_pictures(tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    plan(*VLLM, "--max-model-len", "2M", "--html", str(page))
    text = page.read_text()
    assert text.count("<svg") == 2
    assert SCOUT in text


def test_a_reported_time_is_audited() -> None:
    argv = (*VLLM, "--max-model-len", "2M", "--input-tokens", "2065427", "--measured-s", "69.35")
    assert plan_json(*argv)["time"]["audit"]["possible_cold"] is False
    assert "impossible cold" in plan(*argv).stdout


def test_the_cost_of_one_request() -> None:
    assert "cost of one request" in plan(*VLLM, "--max-model-len", "2M", "--price", "4").stdout


def test_neuron_in_the_terminal_as_json_and_as_a_page(tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    shown = plan(*NEURON, "--html", str(page))
    assert shown.return_value == 0
    assert "compiled graphs" in shown.stdout
    assert "<svg" in page.read_text()
    document = plan_json(*NEURON)
    assert document["verdict"] == "fits(4)"
    assert document["kv"]["bytes_per_token_per_gpu"] == 40_960


# --- calibration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "probe", "seconds"),
    [("4910000", "2850000=334.91", 957.07), ("2850000", "4910000=957.07", 334.91)],
)
def test_one_long_probe_predicts_the_other(tokens: str, probe: str, seconds: float) -> None:
    argv = (*VLLM, *HYBRID, "--max-model-len", "5M", "--input-tokens", tokens)
    prefill = plan_json(*argv, "--probe", probe)["time"]["prefill_s"]
    assert prefill["kind"] == "calibrated"
    assert prefill["expected"] == pytest.approx(seconds, rel=0.1)


def write_run(root: Path, *trials: tuple[str, int, float, int]) -> Path:
    """A finished run; a trial is its deployment, prompt tokens, seconds and cached tokens."""
    text = "name: probes\ndeployments: {x: {target: 'http://127.0.0.1:1'}}\n"
    writer = RunWriter(root / "runs", text)
    for name in sorted({trial[0] for trial in trials}):
        writer.ready(deployment=name)
    for name, tokens, seconds, cached in trials:
        exchange = make_exchange(
            clock=make_clock(seconds * 1000 + 1000),
            events=make_events((seconds * 1000, " a", 1), (seconds * 1000 + 50, " b", 2)),
            usage={
                "prompt_tokens": tokens,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        )
        writer.journal.record(answered(tokens, exchange=exchange, deployment=name))
    return writer.close().path


def test_a_run_of_two_lengths_fixes_both_coefficients(tmp_path: Path) -> None:
    """T = a N + b N^2 with a = 10 s and b = 38 s for N in millions."""
    run = write_run(tmp_path, ("x", 1_000_000, 48.0, 0), ("x", 2_000_000, 172.0, 0))
    argv = (*VLLM, *HYBRID, "--max-model-len", "5M", "--input-tokens", "4000000")
    prefill = plan_json(*argv, "--calibrate", str(run))["time"]["prefill_s"]
    assert prefill["expected"] == pytest.approx(4 * 10 + 16 * 38)
    assert prefill["source"] == "2 cold probes of this deployment"
    by_id = plan_json(*argv, "--calibrate", f"{run.name}:x", "--runs", str(tmp_path / "runs"))
    assert by_id["time"]["prefill_s"] == prefill


def test_a_trial_that_a_cache_helped_is_no_probe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path, ("x", 2_065_427, 69.35, 1_600_000))
    assert "no cold answered trial" in refuse(capsys, *VLLM, "--calibrate", str(run))


def test_two_deployments_in_a_run_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path, ("x", 1_000_000, 48.0, 0), ("y", 1_000_000, 96.0, 0))
    assert "trials of x, y" in refuse(capsys, *VLLM, "--calibrate", str(run))


# --- wrong use ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("Qwen/Qwen3-8C", *VLLM[1:]), "Qwen/Qwen3-8B"),
        ((SCOUT, "--hardware", "8xH300", "--engine", "vllm==0.12.0"), "no hardware 'H300'"),
        ((*ON_H200, "--engine", "vlm==0.12.0"), "vllm==0.12.0"),
        ((*ON_H200, "--engine", "vllm"), "not an engine with its version"),
        (ON_H200, "--engine"),
        ((*VLLM, "--set", "tensor_parallel_size=x"), "tensor_parallel_size"),
        ((*VLLM, "--set", "oops"), "NAME=VALUE"),
        ((*VLLM, "--max-model-len", "foo"), "'foo'"),
        ((*VLLM, "--input-tokens", "-5"), "--input-tokens"),
        ((*VLLM, "--output-tokens", "0"), "--output-tokens"),
        ((*VLLM, "--cached-tokens", "-1"), "--cached-tokens"),
        ((*VLLM, "--available-kv-gib", "nan"), "above 0"),
        ((*VLLM, "--weights-gib", "-1"), "above 0"),
        ((*VLLM, "--measured-s", "0"), "above 0"),
        ((*VLLM, "--price", "much"), "above 0"),
        ((*VLLM, "--probe", "1000"), "TOKENS=S"),
        ((*VLLM, "--probe", "x=3"), "--probe"),
        ((*VLLM, "--search"), "--input-tokens"),
        ((*VLLM, "--search", "--input-tokens", "1k", "--probe", "1k=3"), "--probe"),
        ((*VLLM, "--search", "--input-tokens", "1k", "--html", "x"), "look at --html"),
        ((*VLLM, "--smallest", "--measured-s", "9"), "look at --measured-s"),
        ((SCOUT, "--hardware", "H100,H200", *VLLM[3:], "--price", "1"), "look at --price"),
        (("x.yaml", "--engine", "vllm==0.12.0"), "look at --engine"),
        ((*VLLM, "--calibrate", "none"), "no run 'none'"),
        (("missing.yaml",), "no such campaign file"),
        ((*NEURON[:5], "--search", "--input-tokens", "30000"), "not searched"),
        ((*NEURON, "--smallest"), "not searched"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_3(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    argv: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("leadline.catalog.hub.can_reach_hub", lambda: False)
    assert said in refuse(capsys, *argv)


def test_a_misspelt_setting_is_warned_of() -> None:
    (warning,) = [
        text
        for text in plan_json(
            *ON_H200, "--engine", "vllm==0.12.0", "--set", "tensor_paralel_size=8"
        )["warnings"]
        if "known here" in text
    ]
    assert "the nearest is tensor_parallel_size" in warning
