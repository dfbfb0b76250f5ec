"""The real SGLang 0.5.6.post2 server on a CPU: qualified through the command line, traps included.

What this build cannot show: speed, GPU memory, CUDA graphs, Llama-4's pools (see the how-to).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.real_engines.conftest import KEEP_BYTECODE, Outcome, run_leadline
from tests.real_engines.environments import SGLANG_0_5, require
from tests.real_engines.killing import Killing
from tests.real_engines.leftovers import watching
from tests.real_engines.outcomes import assert_killed
from tests.real_engines.sglang_environment import CPU_ENV, CPU_SETTINGS, VERSION, sglang_python
from tests.real_engines.tiny_llama import write_tiny_llama

pytestmark = [pytest.mark.engine, pytest.mark.timeout(2400)]


Qualify = Callable[..., Outcome]


@pytest.fixture(scope="session")
def python() -> Path:
    require(SGLANG_0_5)
    return sglang_python()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def qualify(python: Path, model: Path, tmp_path: Path) -> Iterator[Qualify]:
    """Run a campaign; neither a process nor shared memory of its servers may be left behind."""
    outcomes: list[Outcome] = []

    def run(settings: Mapping[str, Any], meanwhile: Killing | None = None, **parts: Any) -> Outcome:
        deployment = {
            "engine": f"sglang=={VERSION}",
            "target": {"kind": "process", "executable": str(python)},
            "settings": {**CPU_SETTINGS, **settings},
            "env": CPU_ENV,
        }
        campaign = {
            "name": "sglang",
            "model": str(model),
            "deployments": {"sglang": deployment},
            **parts,
        }
        file = tmp_path / "campaign.yaml"
        file.write_text(json.dumps(campaign), encoding="utf-8")
        command = [sys.executable, "-m", "leadline.cli", "run", str(file), "--json"]
        runs = tmp_path / "runs"
        command += ["--runs", str(runs)]
        env = {**os.environ, **KEEP_BYTECODE}
        outcomes.append(run_leadline(command, runs, meanwhile, env=env))
        return outcomes[-1]

    with watching(lambda: servers_of(model)) as leftovers:
        yield run
    assert leftovers.processes() == []
    # A scheduler that dies by itself before it is ready leaves one of 32 bytes.
    if all(item["starts"] for outcome in outcomes for item in outcome.report["deployments"]):
        assert leftovers.segments() == []


def servers_of(model: Path) -> list[int]:
    """The servers of that model and all that they have started."""
    servers = [
        p for p in psutil.process_iter(["cmdline"]) if str(model) in (p.info["cmdline"] or [])
    ]
    return [process.pid for server in servers for process in family_of(server)]


def family_of(server: psutil.Process) -> list[psutil.Process]:
    try:
        return [server, *server.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("chunks", [[512], pytest.param([4096], marks=pytest.mark.long)])
def test_exact_lengths_are_proven_with_the_radix_cache_on_and_off_and_any_chunk(
    qualify: Qualify, chunks: list[int]
) -> None:
    outcome = qualify(
        {"context_length": 8192, "max_total_tokens": 20000, "max_running_requests": 4},
        matrix={
            "settings.disable_radix_cache": [False, True],
            "settings.chunked_prefill_size": chunks,
            "workload.input_tokens": [500, 3000],
        },
        workload={"output_tokens": 8, "repeats": 2, "needles": 0},
    )
    assert outcome.code == 0, outcome.stderr
    assert len(outcome.report["cells"]) == 4
    for cell in outcome.report["cells"]:
        assert cell["status"] == "pass"
        for trial in cell["trials"]:
            assert trial["usage"]["prompt_tokens"] == cell["input_tokens"]
            assert [proof["outcome"] for proof in trial["proofs"]] == ["pass"] * 4
    for deployment in outcome.report["deployments"]:
        assert [proof["outcome"] for proof in deployment["limits"]] == ["pass"] * 2
        assert deployment["window_tokens"] == 8192
        words = deployment["words"]
        assert words["figures"]["kv_tokens"] == 20000
        assert words["figures"]["window_tokens"] == 8192
        assert words["settings"]["chunked_prefill_size"] == str(chunks[0])
        assert words["settings"]["enable_cache_report"] == "True"
        assert words["differing"] == {}
        assert [found["equal"] for found in words["comparisons"]] == [True]


@pytest.mark.long
def test_32k_tokens_are_proven_up_to_the_very_limit(qualify: Qualify) -> None:
    """32,768 and 8 of answer in a window of 32,778: not one token more is possible."""
    outcome = qualify(
        {"context_length": 32778, "max_total_tokens": 40000, "max_running_requests": 4},
        workload={"input_tokens": "max", "output_tokens": 8, "repeats": 1, "needles": 0},
        timeouts={"first_token_s": 900},
    )
    assert outcome.code == 0, outcome.stderr
    (cell,) = outcome.report["cells"]
    assert cell["input_tokens"] == 32768
    (deployment,) = outcome.report["deployments"]
    assert {proof["name"]: proof["outcome"] for proof in deployment["limits"]} == {
        "edge": "pass",
        "over_limit": "pass",
    }


def test_its_traps_are_failures_with_cause_and_remedy(qualify: Qualify) -> None:
    """A pool of 4,096 under a window of 8,192: each of these is HTTP 200 to a naive client."""
    traps = [(6000, 8), (4080, 100), (9000, 8)]
    outcome = qualify(
        {"context_length": 8192, "max_total_tokens": 4096, "max_running_requests": 4},
        matrix={
            "include": [
                {"workload.input_tokens": sent, "workload.output_tokens": asked}
                for sent, asked in traps
            ]
            + [{"workload.input_tokens": "max", "workload.output_tokens": 8}],
        },
        workload={"repeats": 1, "needles": 0, "limit_probes": False},
    )
    assert outcome.code == 1, outcome.stderr
    assert outcome.cell("input_tokens=max")["status"] == "pass"
    assert outcome.cell("input_tokens=max")["input_tokens"] == 4086

    pool = outcome.cell("input_tokens=6000")
    assert (pool["status"], pool["cause"]) == ("fail", "too_long")
    finding = outcome.findings("input_tokens=6000")["RUN020"]
    assert "finish_reason abort" in finding["evidence"][0]
    assert "to at most 4,086" in finding["remedy"]
    assert "max_total_tokens" in finding["remedy"]

    cut = outcome.cell("input_tokens=4080")
    assert (cut["status"], cut["cause"]) == ("fail", "truncated")
    finding = outcome.findings("input_tokens=4080")["RUN022"]
    assert finding["evidence"] == ["finish_reason length after 14 of 100 output tokens"]
    assert "lower workload.input_tokens by 86" in finding["remedy"]

    over = outcome.cell("input_tokens=9000")
    assert (over["status"], over["cause"]) == ("fail", "too_long")
    assert "RUN002" in outcome.findings("input_tokens=9000")


def test_a_prompt_that_was_sent_before_is_cold_again(qualify: Qualify) -> None:
    """Two cells begin with the same prompt: without a flush the second would find it cached."""
    outcome = qualify(
        {"context_length": 8192, "max_total_tokens": 20000, "max_running_requests": 4},
        matrix={"workload.repeats": [1, 2]},
        workload={
            "input_tokens": 800,
            "output_tokens": 8,
            "needles": 0,
            "limit_probes": False,
        },
    )
    first, second = outcome.report["cells"]
    prompts = [cell["trials"][0]["sent"]["ids_sha256"] for cell in (first, second)]
    assert prompts[0] == prompts[1]
    assert [first["status"], second["status"]] == ["pass", "pass"], outcome.stderr


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"max_totl_tokens": 5}, "START006"),
        pytest.param({"context_length": 262144}, "START020", marks=pytest.mark.long),
        pytest.param({"max_total_tokens": 5}, "START021", marks=pytest.mark.long),
    ],
)
def test_a_start_that_fails_is_explained(
    qualify: Qualify, settings: Mapping[str, Any], code: str
) -> None:
    outcome = qualify(
        {"context_length": 8192, **settings},
        workload={"input_tokens": 100, "repeats": 1},
        timeouts={"start_s": 600},
    )
    assert outcome.code == 2, outcome.stderr
    assert [finding["code"] for finding in outcome.report["findings"]] == [code]


@pytest.mark.parametrize(
    "title",
    ["sglang::scheduler", pytest.param("sglang::detokenizer", marks=pytest.mark.long)],
)
def test_a_killed_process_ends_the_cell_with_its_cause(qualify: Qualify, title: str) -> None:
    """SGLang does not notice: without a look at its processes only a time limit would end this."""
    killing = Killing(title)
    outcome = qualify(
        {"context_length": 8192, "max_total_tokens": 20000, "max_running_requests": 4},
        killing,
        workload={
            "input_tokens": 800,
            "output_tokens": 8,
            "repeats": 1,
            "needles": 0,
            "limit_probes": False,
        },
        timeouts={"first_token_s": 900, "between_tokens_s": 900},
    )
    assert_killed(outcome, killing, title)
