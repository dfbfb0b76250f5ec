"""Loads, sweeps and length distributions in a campaign file."""

from __future__ import annotations

import pytest

from leadline.errors import SpecError
from leadline.spec import Campaign, Goals, Lognormal, Uniform, UserRange, parse_campaign

SMALL = """\
name: small
model: tiny
deployments:
  x: {engine: llamacpp}
"""


def parse(text: str) -> Campaign:
    return parse_campaign(SMALL + text, source="c.yaml")


def problem(text: str) -> str:
    with pytest.raises(SpecError) as refusal:
        parse(text)
    return refusal.value.what


def test_a_load_has_the_documented_defaults() -> None:
    load = parse("workload: {load: {users: 80}}\n").workload.load
    assert load
    assert (load.count, load.warmup_requests, load.is_open) == (100, 64, False)
    assert load.goals == Goals()
    assert load.goals.share == 0.99
    rate = parse("workload: {load: {rate: 2}}\n").workload.load
    assert rate
    assert (rate.arrivals, rate.warmup_requests, rate.is_open) == ("poisson", 4, True)


def test_the_matrix_reaches_into_a_load_and_may_hold_what_drives_it() -> None:
    campaign = parse("""\
workload: {input_tokens: 1k, load: {requests: 7, goals: {ttft_s: 2}}}
matrix:
  workload.load.users: [1, 8]
  workload.load.goals.ttft_s: [1, 2.5]
""")
    cells = list(campaign.cells())
    assert [cell.key for cell in cells] == [
        f"x/input_tokens=1000/load.users={users}/load.goals.ttft_s={goal}"
        for users in (1, 8)
        for goal in (1.0, 2.5)
    ]
    loads = [cell.workload.load for cell in cells]
    assert [load and (load.users, load.requests) for load in loads] == [(1, 7)] * 2 + [(8, 7)] * 2


def test_lengths_are_a_number_a_list_or_a_distribution() -> None:
    campaign = parse("""\
workload: {load: {users: 2}, output_tokens: [10, 1k]}
matrix:
  workload.input_tokens:
    - 5
    - [10k, 2M]
    - {uniform: [10k, 2M]}
    - {lognormal: {median: 50k, sigma: 1.0, low: 10k, high: 2M}}
""")
    workloads = [cell.workload for cell in campaign.cells()]
    assert [workload.longest_input for workload in workloads] == [5, *[2_097_152] * 3]
    assert {workload.longest_output for workload in workloads} == {1000}
    assert workloads[1].input_tokens == (10_000, 2_097_152)
    assert isinstance(workloads[2].input_tokens, Uniform)
    assert isinstance(workloads[3].input_tokens, Lognormal)


def test_what_was_read_is_read_again_from_what_is_kept() -> None:
    campaign = parse("""\
workload:
  input_tokens: {lognormal: {median: 50k, sigma: 1.0, low: 10k, high: 2M}}
  output_tokens: {uniform: [1, 2]}
  load: {sweep: {users: {low: 1, high: 64}}, goals: {itl_s: 0.05, share: 0.9}}
""")
    kept = campaign.model_dump_json(exclude_unset=True)
    again = parse_campaign(kept, source="kept")
    assert again == campaign
    assert again.digest() == campaign.digest()
    assert again.workload.load
    assert again.workload.load.sweep
    assert again.workload.load.sweep.levels == UserRange(low=1, high=64)


def test_a_step_of_a_sweep_is_a_load_of_its_own() -> None:
    load = parse("workload: {load: {sweep: {users: [1, 8]}, requests: 9}}\n").workload.load
    assert load
    step = load.at(8.0)
    assert (step.users, step.sweep, step.requests) == (8, None, 9)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ("load: {users: 1, rate: 2}", "users and rate cannot both drive a load; keep one"),
        ("load: {requests: 9}", "it is driven by one of users, rate, trace and sweep; add one"),
        ("load: {users: 0}", "workload.load.users: Input should be greater than or equal to 1"),
        ("load: {usrs: 3}", "workload.load.usrs: unknown key; did you mean 'users'?"),
        ("load: {rate: 1, arrivals: ramp}", "a ramp needs last_rate, where it ends"),
        ("load: {users: 1, goals: {ttft: 1}}", "unknown key; did you mean 'ttft_s'?"),
        ("load: {users: 1, goals: {share: 2}}", "workload.load.goals.share: Input should be less"),
        ("load: {sweep: {users: [1], rate: [1]}}", "over users or over rate: give one of them"),
        ("load: {sweep: {users: {low: 8, high: 1}}}", "low is above high"),
        ("load: {sweep: {users: {low: 8}}}", "workload.load.sweep.users.high: Field required"),
        ("load: {sweep: {rate: [2, 1]}}", "in rising order, each once"),
        ("load: {trace: t.jsonl}, input_tokens: 5", "the trace gives the lengths"),
        ("input_tokens: [1, 2]", "workload.input_tokens: only a load has that; add load:"),
        ("shared_prefix: {tokens: 9}", "workload.shared_prefix: only a load has that"),
        ("turns: 2", "workload.turns: only a load has that"),
        ("load: {users: 1}, shared_prefix: {}", "give its length once"),
        ("load: {users: 1}, input_tokens: []", "should have at least 1 item"),
        ("load: {users: 1}, input_tokens: {uniform: [9, 2]}", "write the shorter length first"),
        (
            "load: {users: 1}, input_tokens: {lognormal: {median: 9, sigma: 1, low: 10, high: 20}}",
            "low <= median <= high must hold",
        ),
    ],
)
def test_a_load_that_cannot_be_meant_is_refused_where_it_stands(
    workload: str, message: str
) -> None:
    found = problem(f"workload: {{{workload}}}\n")
    assert message in found
    assert found.startswith("c.yaml:")


def test_a_matrix_key_within_a_load_gets_the_nearest_name_and_its_line() -> None:
    wrong = problem("workload: {load: {requests: 1}}\nmatrix: {workload.load.userz: [1]}\n")
    assert "no such field; did you mean 'users'?" in wrong
    wrong = problem("workload: {load: {requests: 1}}\nmatrix:\n  workload.load.users: [1, 0]\n")
    assert wrong.startswith("c.yaml:7: matrix.workload.load.users: Input should be greater than")
