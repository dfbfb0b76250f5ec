"""The Scout report's claims come back with the errors it has; right numbers are let pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from leadline.audit.claims import Claim, Claims, Comparison, read_claims
from leadline.audit.objection import Objection
from leadline.audit.results import read_results
from leadline.audit.rules import CLAIM_RULES, REPORT_RULES, raise_objections, titles
from leadline.cli.main import cli
from leadline.errors import SpecError

ROOT = Path(__file__).parents[2]
SCOUT = ROOT / "examples" / "scout" / "claims.yaml"
NEURON = ROOT / "examples" / "llama33-neuron" / "claims.yaml"


def objections(path: Path) -> dict[tuple[str, str], Objection]:
    return {(item.code, item.claim): item for item in raise_objections(read_claims(path))}


def raised(**claim: Any) -> list[Objection]:
    return raise_objections(Claims(source="x", claims=(Claim(name="c", **claim),)))


def codes(**claim: Any) -> list[str]:
    return [item.code for item in raised(**claim)]


@pytest.mark.parametrize(
    ("code", "claim", "in_arithmetic", "in_right"),
    [
        ("AUD001", "vLLM 2M", "206,527.9 x 10 s = 2,065,279", "29,800 tokens/s"),
        ("AUD001", "vLLM 5M, hybrid", "490,814.1 x 10 s = 4,908,141", "5,130 tokens/s"),
        ("AUD002", "vLLM 5M, hybrid", "15.6 x 10 s = 156 of the 200", "floor"),
        ("AUD003", "vLLM 2M", "108% of the dense peak", "75% of the prompt"),
        ("AUD004", "vLLM 2M", "last 1,000 requests", "must be 0"),
        ("AUD005", "vLLM 2M", "= -31,725 tokens, -1.51 %", "2,096,952"),
        ("AUD005", "SGLang 2M", "2,097,151 + 200 + 2 > 2,097,152", "2,096,950"),
        ("AUD006", "vLLM 2.9M", "0.75 < 1", "at least 1.00x"),
        ("AUD007", "vLLM 5M, hybrid", "= 2.96 x 3,919,664", "capped at the window of 5,242,880"),
        ("AUD008", "table of device memory", "= 8 x 5,850,000", "5,850,000"),
        ("AUD009", "vLLM 2M", "108.6 B parameters x 2 B / 8 = 27.2 GB", "25.3 GiB"),
        ("AUD010", "vLLM 2M", "143,771 MiB / 1,000", "140.4 GiB"),
        ("AUD013", "vLLM 5M, hybrid", "= 3.86M tokens", "20 MB"),
        ("AUD015", "SGLang 2M", "percents", "usage.prompt_tokens"),
    ],
)
def test_the_scout_reports_errors_are_found_with_their_arithmetic(
    code: str, claim: str, in_arithmetic: str, in_right: str
) -> None:
    item = objections(SCOUT)[code, claim]
    assert in_arithmetic in item.arithmetic
    assert in_right in item.right


def test_its_headline_ratio_is_not_comparable_and_would_be_about_two() -> None:
    item = objections(SCOUT)["AUD021", "vLLM 2M against SGLang 2M"]
    assert item.weight == "incomparable"
    assert "prompts differ" in item.arithmetic
    assert "2.2 to 2.7 times, not 5.8" in item.right


def test_the_long_runs_of_that_report_are_plausible_as_cold_ones() -> None:
    found = objections(SCOUT)
    assert ("AUD003", "vLLM 2.9M") not in found
    assert ("AUD003", "vLLM 5M, hybrid") not in found


def test_the_neuron_reports_packages_were_never_released_together() -> None:
    item = objections(NEURON)["AUD019", "versions"]
    assert "vLLM 0.13.0 is SDK 2.28" in item.right


def test_packages_that_belong_together_are_let_pass() -> None:
    fine = Claims(source="x", versions={"sdk": "2.28", "vllm": "0.13", "plugin": "0.4.1"})
    assert raise_objections(fine) == []


def test_a_rate_that_is_no_window_is_let_pass() -> None:
    assert codes(input_tokens=100_000, log_prompt_tokens_per_s=8_500.0) == []


@given(tokens=st.integers(1_000, 10_000_000), seconds=st.floats(11, 5_000))
def test_an_honest_rate_over_more_than_a_window_is_never_taken_for_one(
    tokens: int, seconds: float
) -> None:
    assert "AUD001" not in codes(input_tokens=tokens, log_prompt_tokens_per_s=tokens / seconds)


@given(window=st.integers(1_000, 10_000_000), over=st.integers(-500, 500))
def test_the_window_is_held_to_the_token(window: int, over: int) -> None:
    found = codes(
        engine="vllm==0.12.0",
        settings={"max_model_len": window},
        input_tokens=window - 200 + over,
        output_tokens=200,
    )
    assert ("AUD005" in found) == (over > 0)


def test_a_good_report_has_nothing_against_it() -> None:
    assert (
        codes(
            engine="vllm==0.12.0",
            settings={"max_model_len": "2M"},
            input_tokens=2_096_952,
            output_tokens=200,
            counted_by="server",
            ttft_s=184.0,
            response_s=194.0,
            repeats=3,
            cold=True,
            cache_hit_share=0.0,
            evidence=["status", "length", "answer"],
        )
        == []
    )


def test_failed_requests_and_wrong_lengths_are_named() -> None:
    found = codes(
        requests=80, failed=20, asked_input_tokens=1000, mean_input_tokens=1048.4, itl_p99_ms=3.0
    )
    assert found == ["AUD016", "AUD017"]


def test_every_rule_has_a_code_and_a_sentence_and_no_code_comes_twice() -> None:
    assert list(titles()) == [f"AUD{n:03}" for n in range(1, len(titles()) + 1)]
    assert len(titles()) == len(CLAIM_RULES) + len(REPORT_RULES)


# --- result files ---------------------------------------------------------------------------

VLLM = {
    "dataset": "random",
    "completed": 8,
    "failed": 2,
    "mean_ttft_ms": 725.1,
    "p99_itl_ms": 916.3,
    "input_lens": [999] * 8,
    "output_lens": [16] * 8,
    "ttfts": [2.1, 0.36],
}
SGLANG = {
    **VLLM,
    "dataset_name": "random-ids",
    "random_input_len": 1000,
    "random_output_len": 16,
    "input_lens": [1048] * 8,
}
AIPERF = {
    "request_latency": {"unit": "ms", "avg": 2413.5},
    "request_count": {"unit": "requests", "avg": 10.0},
    "time_to_first_token": {"unit": "ms", "avg": 195.8, "min": 126.8},
    "inter_token_latency": {"unit": "ms", "p99": 35.96},
    "input_sequence_length": {"avg": 256.0},
    "output_sequence_length": {"avg": 64.0},
}
GUIDELLM = {
    "benchmarks": [
        {
            "metrics": {
                "request_totals": {"successful": 9, "errored": 1},
                "time_to_first_token_ms": {"successful": {"min": 3.0}},
                "inter_token_latency_ms": {"successful": {"percentiles": {"p99": 4.0}}},
                "prompt_token_count": {"successful": {"mean": 512.0}},
            }
        }
    ]
}
INFERENCE_PERF = {
    "successes": {
        "count": 40,
        "prompt_len": {"mean": 1000.0},
        "latency": {"time_to_first_token": {"min": 0.2}, "inter_token_latency": {"p99": 0.03}},
    },
    "failures": {"count": 0},
}


@pytest.mark.parametrize(
    ("document", "tool", "expected"),
    [
        (VLLM, "vllm bench serve", {"AUD016"}),
        (SGLANG, "SGLang's bench_serving", {"AUD016", "AUD017"}),
        (AIPERF, "aiperf", {"AUD018"}),
        (GUIDELLM, "guidellm", {"AUD016", "AUD018"}),
        (INFERENCE_PERF, "inference-perf", set()),
    ],
)
def test_result_files_are_told_apart_and_read(
    tmp_path: Path, document: dict[str, Any], tool: str, expected: set[str]
) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    claims = read_results(path, None, None)
    assert claims.tool == tool
    assert {item.code for item in raise_objections(claims)} == expected


def test_a_result_faster_than_its_devices_is_found(tmp_path: Path) -> None:
    path = tmp_path / "result.jsonl"
    fast = {**SGLANG, "input_lens": [1_000_000] * 8, "ttfts": [1.5], "random_input_len": 1_000_000}
    path.write_text("\n" + json.dumps(fast))
    arguments = ["audit", str(path), "--model", "meta-llama/Llama-3.1-8B-Instruct"]
    arguments += ["--hardware", "1xH100", "--engine", "vllm==0.12.0", "--json"]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.return_value == 1
    told = json.loads(result.stdout)
    assert "AUD003" in [item["code"] for item in told["objections"]]


def test_what_is_no_result_says_what_is(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    with pytest.raises(SpecError, match="vllm bench serve"):
        read_results(path, None, None)


def test_an_unknown_field_of_a_claim_names_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("source: x\nclaims:\n  - {name: a, inputtokens: 3}\n")
    with pytest.raises(SpecError, match="input_tokens"):
        read_claims(path)


def test_a_comparison_of_equals_is_let_pass() -> None:
    one = {"input_tokens": 1000, "response_s": 2.0, "repeats": 3, "ttft_s": 1.0}
    claims = Claims(
        source="x",
        claims=(Claim(name="a", **one), Claim(name="b", **one)),
        comparisons=(Comparison(faster="a", slower="b", ratio=1.0),),
    )
    assert raise_objections(claims) == []
