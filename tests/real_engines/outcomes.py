"""What a campaign's report says, asked as the tests ask it."""

from __future__ import annotations

from typing import Any

from tests.real_engines.conftest import Outcome
from tests.real_engines.killing import Killing

# Stopping all that is left of the server included, on a busy machine.
SOON_S = 45.0


def passed(outcome: Outcome, deployment: str = "") -> list[int]:
    """Lengths at which every structural proof holds."""
    return [
        cell["input_tokens"]
        for cell in outcome.report["cells"]
        if cell["status"] == "pass" and f"{cell['deployment']}/".startswith(deployment)
    ]


def assert_equal_to_the_plan(outcome: Outcome, deployments: int) -> None:
    """Tokens exactly; concurrency as far as it is printed."""
    found = outcome.comparisons()
    assert [name for name, _, _ in found].count("KV cache size") == deployments
    for name, engine, plan in found:
        assert engine == (plan if name == "KV cache size" else round(plan, 2)), name


def words_of(outcome: Outcome, deployment: str) -> dict[str, Any]:
    (found,) = [x for x in outcome.report["deployments"] if x["key"].startswith(deployment)]
    return dict(found["words"])


def assert_killed(outcome: Outcome, killing: Killing, title: str = "") -> None:
    """The cell failed soon after; its first evidence is which process it was, and how it ended.

    How is told by the kernel, unless the process's parent has asked before: vLLM 0.32 does.
    """
    assert outcome.code == 2, outcome.stderr
    (cell,) = outcome.report["cells"]
    assert (cell["status"], cell["cause"]) == ("fail", "crashed")
    (finding,) = outcome.report["findings"]
    assert finding["code"] in {"RUN001", "RUN030"}
    told = finding["evidence"][0]
    assert title in told
    assert told.endswith("killed by SIGKILL") or (title.startswith("VLLM") and "is gone" in told)
    assert killing.took_s < SOON_S


def assert_two_million(outcome: Outcome) -> None:
    """Exact at every length of the campaign, cold, answered, and at the very limit."""
    assert passed(outcome) == [8192, 131_072, 1_000_000, 2_096_952]
    (deployment,) = outcome.report["deployments"]
    assert deployment["qualified_tokens"] == 2_096_952
    assert {p["name"]: p["outcome"] for p in deployment["limits"]} == {
        "edge": "pass",
        "over_limit": "pass",
    }
    assert_equal_to_the_plan(outcome, deployments=1)
    assert outcome.code == 0
