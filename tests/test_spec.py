from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.errors import SpecError
from leadline.spec import Campaign, EndpointTarget, Gate, ProcessTarget, parse_campaign
from leadline.spec import read_campaign as read

SMALL = """\
name: small
model: tiny
deployments:
  x: {engine: llamacpp}
"""


def parse(text: str) -> Campaign:
    return parse_campaign(text, source="c.yaml")


def problem(text: str) -> str:
    """What the user is told, without the cure that all of these share."""
    with pytest.raises(SpecError) as refusal:
        parse(text)
    assert refusal.value.cure == "correct the named lines and run the command again"
    assert refusal.value.exit_code == 3
    return refusal.value.what


# --- what is read ---------------------------------------------------------------------------


def test_the_smallest_campaign_has_the_documented_defaults() -> None:
    campaign = parse(SMALL)
    workload = campaign.workload
    assert (workload.input_tokens, workload.output_tokens, workload.repeats) == ("max", 200, 3)
    assert (workload.corpus, workload.cold, workload.needles) == ("kjv", True, 1)
    assert workload.limit_probes is True
    assert campaign.deployment("x").target == ProcessTarget()
    assert campaign.deployment("x").model == "tiny"
    assert campaign.timeouts.limit_start() == 600
    assert campaign.timeouts.first_token_s is None
    assert campaign.seed is None


def test_token_counts_take_the_suffixes_of_vllm() -> None:
    campaign = parse(SMALL + "workload: {input_tokens: 2M, output_tokens: 1k}\n")
    assert campaign.workload.input_tokens == 2_097_152
    assert campaign.workload.output_tokens == 1000


def test_a_target_may_be_an_address_a_word_or_a_mapping() -> None:
    campaign = parse("""\
name: targets
deployments:
  a: {target: "http://127.0.0.1:8000/"}
  b: {engine: llamacpp, model: m, target: process}
  c: {target: {kind: endpoint, url: "https://host", api_key_env: K, tokenizer: t}}
""")
    assert campaign.deployment("a").target == EndpointTarget(url="http://127.0.0.1:8000")
    assert campaign.deployment("b").target == ProcessTarget()
    expected = EndpointTarget(url="https://host", api_key_env="K", tokenizer="t")
    assert campaign.deployment("c").target == expected


def test_engine_name_is_without_its_version() -> None:
    campaign = parse(SMALL.replace("llamacpp", "vllm==0.12.0"))
    assert campaign.deployment("x").engine_name == "vllm"


def test_a_campaign_is_frozen() -> None:
    campaign = parse(SMALL)
    with pytest.raises(ValueError, match="frozen"):
        campaign.name = "other"  # type: ignore[misc]


def test_a_yaml_merge_key_is_followed() -> None:
    campaign = parse("""\
name: merged
deployments:
  x: &x {engine: llamacpp, model: m, settings: {threads: 2}}
  y: {<<: *x, model: n}
""")
    assert campaign.deployment("y").model == "n"
    assert campaign.deployment("y").settings == {"threads": 2}


# --- expectations ---------------------------------------------------------------------------

EXPECTING = """\
name: c
model: m
deployments: {{x: {{engine: llamacpp, expect: {expect}}}}}
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [("pass", "pass"), ("fail", "fail"), ("{fail: oom}", "fail (oom)")],
)
def test_an_expectation_reads_as_it_is_written(text: str, shown: str) -> None:
    campaign = parse_campaign(EXPECTING.format(expect=text), source="c.yaml")
    assert str(campaign.deployment("x").expect) == shown


@pytest.mark.parametrize("text", ["maybe", "{pass: oom}", "{fail: oom, cause: x}", "[pass]", "1"])
def test_any_other_expectation_says_what_to_write(text: str) -> None:
    assert "write 'pass', 'fail' or '{fail: CAUSE}'" in problem(EXPECTING.format(expect=text))


def test_a_run_is_resumed_whatever_is_expected_of_it() -> None:
    one, other = (
        parse_campaign(EXPECTING.format(expect=text), source="c.yaml") for text in ("pass", "fail")
    )
    assert one.digest() == other.digest()


# --- extends --------------------------------------------------------------------------------

FAMILY = """\
name: family
model: tiny
deployments:
  base:
    engine: llamacpp
    settings: {ctx_size: 8192, threads: 2}
    env: {A: "1", B: "1"}
  child:
    extends: base
    settings: {threads: 4}
    env: {B: "2"}
  grandchild:
    extends: child
    model: other
    settings: {parallel: 1}
"""


def test_extends_merges_settings_and_env_and_keeps_the_rest() -> None:
    child = parse(FAMILY).deployment("child")
    assert child.engine == "llamacpp"
    assert child.model == "tiny"
    assert child.settings == {"ctx_size": 8192, "threads": 4}
    assert child.env == {"A": "1", "B": "2"}


def test_extends_goes_through_several_generations() -> None:
    grandchild = parse(FAMILY).deployment("grandchild")
    assert grandchild.model == "other"
    assert grandchild.settings == {"ctx_size": 8192, "threads": 4, "parallel": 1}


def test_extending_leaves_the_parent_alone() -> None:
    base = parse(FAMILY).deployment("base")
    assert base.settings == {"ctx_size": 8192, "threads": 2}
    assert base.env == {"A": "1", "B": "1"}


def test_extending_what_is_not_there_names_the_nearest() -> None:
    text = FAMILY.replace("extends: base", "extends: bsae")
    expected = "deployment 'child' extends 'bsae', which is not there; did you mean 'base'?"
    assert expected in problem(text)


@pytest.mark.parametrize("parent", ["base", "child", "grandchild"])
def test_extending_in_a_circle_is_refused(parent: str) -> None:
    text = FAMILY.replace("engine: llamacpp", f"engine: llamacpp\n    extends: {parent}")
    assert "extends itself" in problem(text)


# --- matrix ---------------------------------------------------------------------------------


def test_without_a_matrix_there_is_one_cell_per_deployment() -> None:
    cells = list(parse(FAMILY).cells())
    assert [cell.key for cell in cells] == [
        "base/input_tokens=max",
        "child/input_tokens=max",
        "grandchild/input_tokens=max",
    ]
    assert [cell.deployment for cell in cells] == ["base", "child", "grandchild"]


def test_the_matrix_is_the_product_of_its_axes_with_the_server_outermost() -> None:
    campaign = parse(
        SMALL
        + """\
matrix:
  workload.input_tokens: [1k, max]
  settings.ctx_size: [4096, 8192]
  env.MODE: [a]
"""
    )
    assert [(cell.deployment, cell.workload.input_tokens) for cell in campaign.cells()] == [
        ("x/ctx_size=4096/MODE=a", 1000),
        ("x/ctx_size=4096/MODE=a", "max"),
        ("x/ctx_size=8192/MODE=a", 1000),
        ("x/ctx_size=8192/MODE=a", "max"),
    ]
    first = next(campaign.cells())
    assert first.key == "x/ctx_size=4096/MODE=a/input_tokens=1000"
    assert first.settings.settings == {"ctx_size": 4096}
    assert first.settings.env == {"MODE": "a"}


def test_include_adds_single_combinations() -> None:
    campaign = parse(
        SMALL
        + """\
matrix:
  workload.input_tokens: [512, 1K]
  include:
    - {workload.input_tokens: max, workload.repeats: 1}
"""
    )
    assert [(cell.key, cell.workload.repeats) for cell in campaign.cells()] == [
        ("x/input_tokens=512", 3),
        ("x/input_tokens=1024", 3),
        ("x/input_tokens=max/repeats=1", 1),
    ]


def test_include_alone_adds_nothing_else() -> None:
    text = SMALL + "matrix: {include: [{workload.input_tokens: 7}]}\n"
    assert [cell.key for cell in parse(text).cells()] == ["x/input_tokens=7"]


@given(st.sets(st.integers(1, 10**7), min_size=1, max_size=6), st.sets(st.integers(1, 99)))
def test_every_combination_is_exactly_one_cell(lengths: set[int], repeats: set[int]) -> None:
    matrix: dict[str, list[int]] = {"workload.input_tokens": list(lengths)}
    if repeats:
        matrix["workload.repeats"] = list(repeats)
    campaign = Campaign.model_validate(
        {"name": "p", "deployments": {"x": {"target": "http://h:1"}}, "matrix": matrix}
    )
    cells = list(campaign.cells())
    assert len(cells) == len({cell.key for cell in cells}) == len(lengths) * max(1, len(repeats))
    assert {cell.workload.input_tokens for cell in cells} == lengths


def test_the_same_cell_twice_is_refused() -> None:
    text = SMALL + "matrix: {workload.input_tokens: [1000, 1k]}\n"
    assert "matrix: cell 'x/input_tokens=1000' comes twice" in problem(text)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (
            "{workload.input_token: [1]}",
            "c.yaml:5: matrix.workload.input_token: no such field; did you mean 'input_tokens'?",
        ),
        (
            "{lengths: [1]}",
            "matrix.lengths: not a matrix key: write workload.FIELD, settings.NAME or env.NAME",
        ),
        (
            "{include: [7]}",
            "matrix.include.0: write a mapping like {workload.repeats: 1}, not 7",
        ),
        (
            "{workload.input_tokens: 10k}",
            "matrix.workload.input_tokens: write a list of values, not '10k'",
        ),
        (
            "{workload.input_tokens: []}",
            "matrix.workload.input_tokens: write a list of values, not []",
        ),
    ],
)
def test_a_matrix_that_cannot_be_meant_is_refused(matrix: str, message: str) -> None:
    assert message in problem(SMALL + f"matrix: {matrix}\n")


def test_a_value_inside_the_matrix_is_checked_like_any_other() -> None:
    text = SMALL + "matrix:\n  workload.input_tokens:\n    - 10\n    - 12q\n"
    expected = "c.yaml:6: matrix.workload.input_tokens: '12q' is not a token count"
    assert problem(text).startswith(expected)


# --- what is refused, and where -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SMALL + "workload:\n  corpse: kjv\n",
            "c.yaml:6: workload.corpse: unknown key; did you mean 'corpus'?",
        ),
        (
            SMALL + "wokload: {}\n",
            "c.yaml:5: wokload: unknown key; did you mean 'workload'?",
        ),
        (
            "name: a\ndeployments:\n  x:\n    engine: llamacpp\n    modle: m\n",
            "c.yaml:5: deployments.x.modle: unknown key; did you mean 'model'?",
        ),
        (
            SMALL + "timeouts: {first_tokens_s: 3}\n",
            "c.yaml:5: timeouts.first_tokens_s: unknown key; did you mean 'first_token_s'?",
        ),
        (
            (
                "name: a\ndeployments:\n  x:\n    target:\n"
                "      url: http://h\n      kind: endpoint\n"
                "      api_key: secret\n"
            ),
            "c.yaml:7: deployments.x.target.api_key: unknown key; did you mean 'api_key_env'?",
        ),
        (
            SMALL + "zzz: 1\n",
            (
                "c.yaml:5: zzz: unknown key; known: name, model, hardware, seed, deployments, "
                "matrix, order, "
                "workload, search, timeouts, gates, budget"
            ),
        ),
    ],
)
def test_an_unknown_key_gets_file_line_and_the_nearest_name(text: str, message: str) -> None:
    assert problem(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SMALL + "workload: {cold: maybe}\n",
            (
                "c.yaml:5: workload.cold: Input should be a valid boolean, unable to "
                "interpret input "
                "(given: 'maybe')"
            ),
        ),
        (
            SMALL + "workload:\n  output_tokens: many\n",
            (
                "c.yaml:6: workload.output_tokens: 'many' is not a token count; "
                "write 4096, 10k (10,000) or 2M (2^21)"
            ),
        ),
        (
            "name: 3\nmodel: m\ndeployments: {x: {engine: llamacpp}}\n",
            "c.yaml:1: name: Input should be a valid string (given: 3)",
        ),
        (
            "name: a\ndeployments: {x: {target: cloud}}\n",
            (
                "c.yaml:2: deployments.x.target: not a target; write process, offline, docker, "
                "kubernetes, or http://HOST:PORT"
            ),
        ),
        (
            "name: a\ndeployments:\n  x:\n    target: {kind: endpoint, url: 'localhost:80'}\n",
            (
                "c.yaml:4: deployments.x.target.url: 'localhost:80' is not a server address; "
                "write http://HOST:PORT"
            ),
        ),
        (
            SMALL + "gates:\n  recall: 0.95\n",
            (
                "c.yaml:6: gates.recall: 0.95 is not a gate; "
                "write '<= 2.5', '>= 0.95' or '<= plan * 1.3'"
            ),
        ),
        (
            SMALL + "gates:\n  ttft_s: '2.5'\n",
            (
                "c.yaml:6: gates.ttft_s: '2.5' is not a gate; "
                "write '<= 2.5', '>= 0.95' or '<= plan * 1.3'"
            ),
        ),
    ],
)
def test_a_wrong_type_gets_file_line_and_what_is_right(text: str, message: str) -> None:
    assert problem(text) == message


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("workload: {input_tokens: 0}", "0 is not a token count: it must be at least 1"),
        ("workload: {input_tokens: -3}", "-3 is not a token count: it must be at least 1"),
        (
            "workload: {repeats: 0}",
            "Input should be greater than or equal to 1 (given: 0)",
        ),
        ("workload: {needles: 65}", "Input should be less than or equal to 64 (given: 65)"),
        ("timeouts: {start_s: -1}", "Input should be greater than 0 (given: -1)"),
        ("timeouts: {start_s: .nan}", "Input should be greater than 0 (given: nan)"),
        ("timeouts: {first_token_s: -1.5}", "Input should be greater than 0 (given: -1.5)"),
    ],
)
def test_an_impossible_number_is_refused(field: str, message: str) -> None:
    group, _, rest = field.partition(": {")
    assert problem(SMALL + field + "\n") == f"c.yaml:5: {group}.{rest.partition(':')[0]}: {message}"


@pytest.mark.parametrize("port", [0, 65536])
def test_an_impossible_port_is_refused(port: int) -> None:
    text = SMALL.replace("{engine: llamacpp}", f"{{engine: llamacpp, target: {{port: {port}}}}}")
    assert "target" in problem(text)


def test_all_problems_are_told_at_once() -> None:
    lines = problem(SMALL + "workload:\n  repeats: 0\n  corpse: x\n").splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["c.yaml:6", "workload.repeats"],
        ["c.yaml:7", "workload.corpse"],
    ]


def test_a_deployment_may_be_called_like_a_target() -> None:
    text = "name: a\ndeployments:\n  endpoint:\n    enginee: vllm\n"
    expected = "c.yaml:4: deployments.endpoint.enginee: unknown key; did you mean 'engine'?"
    assert problem(text) == expected


def test_what_leadline_is_to_start_needs_engine_and_model() -> None:
    engineless = problem("name: a\nmodel: m\ndeployments: {x: {}}\n")
    assert "deployment 'x' needs an engine, for example llamacpp" in engineless
    modelless = problem("name: a\ndeployments: {x: {engine: llamacpp}}\n")
    assert "deployment 'x' needs a model, of its own or the campaign's" in modelless


def test_a_campaign_without_deployments_is_refused() -> None:
    assert "deployments: Dictionary should have at least 1 item" in problem(
        "name: a\ndeployments: {}\n"
    )
    assert problem("name: a\n") == "c.yaml:1: deployments: Field required"


@pytest.mark.parametrize("name", ["../up", "a b", "", ".hidden", "a/b"])
def test_a_name_that_is_no_folder_name_is_refused(name: str) -> None:
    assert "c.yaml:1: name: String should match pattern" in problem(
        SMALL.replace("name: small", f"name: '{name}'")
    )


# --- the file itself ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("name: a\ndeployments: [x\n", "c.yaml:3", "expected ',' or ']'"),
        ("name: a\nname: b\n", "c.yaml:2", 'found duplicate key "name"'),
        ("a: b: c\n", "c.yaml:1", "mapping values are not allowed here"),
        ("name: a\n\tmodel: b\n", "c.yaml:2", "found character '\\t'"),
        ("name: a\nmodel: \x07\n", "c.yaml:2", "special characters are not allowed"),
    ],
)
def test_bad_yaml_names_the_line(text: str, where: str, what: str) -> None:
    with pytest.raises(SpecError) as refusal:
        parse(text)
    assert refusal.value.what.startswith("not valid YAML: ")
    assert what in refusal.value.what
    assert refusal.value.where == where
    assert refusal.value.cure == "check indentation, colons and quotes at that line"


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n", "7\n"])
def test_what_is_no_mapping_is_no_campaign(text: str) -> None:
    with pytest.raises(SpecError) as refusal:
        parse(text)
    expected = "not a campaign: it must be a mapping with name, model and deployments"
    assert refusal.value.what == expected
    assert refusal.value.where == "c.yaml"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refusal:
        read(tmp_path / "none.yaml")
    assert str(refusal.value) == (
        f"{tmp_path}/none.yaml: no such campaign file\n  cure: check the path"
    )


def test_a_folder_or_a_binary_file_is_no_campaign_file(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"name: \xff\n")
    for path in (tmp_path, tmp_path / "b.yaml"):
        with pytest.raises(SpecError, match="cannot be read") as refusal:
            read(path)
        assert refusal.value.where == str(path)


# --- digest ---------------------------------------------------------------------------------


def test_the_digest_ignores_comments_order_and_notation() -> None:
    other = """\
# the same thing
deployments:
  x:
    engine: "llamacpp"
model: tiny
name: small
workload: {input_tokens: max}
"""
    assert parse(SMALL).digest() == parse(other).digest()
    ten_k = parse(SMALL + "workload: {input_tokens: 10k}\n").digest()
    assert ten_k == parse(SMALL + "workload: {input_tokens: 10000}\n").digest()


@pytest.mark.parametrize(
    "change",
    [
        "seed: 1",
        "workload: {repeats: 4}",
        "matrix: {workload.repeats: [3]}",
        "timeouts: {start_s: 601}",
        "gates: {recall: '>= 0.9'}",
    ],
)
def test_the_digest_changes_with_anything_that_matters(change: str) -> None:
    assert parse(SMALL).digest() != parse(SMALL + change + "\n").digest()


def test_the_digest_is_the_same_in_every_process() -> None:
    assert parse(SMALL).digest() == parse(SMALL).digest()
    assert len(parse(SMALL).digest()) == 16


# --- gates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("<= 2.5", Gate(op="<=", number=2.5)),
        (">=0.95", Gate(op=">=", number=0.95)),
        (" < 3 ", Gate(op="<", number=3)),
        ("> 0", Gate(op=">", number=0)),
        ("<= plan * 1.3", Gate(op="<=", number=1.3, times_plan=True)),
        ("<=plan*2", Gate(op="<=", number=2, times_plan=True)),
    ],
)
def test_gates_are_read(text: str, gate: Gate) -> None:
    assert parse(SMALL + f"gates: {{ttft_s: '{text}'}}\n").gates.ttft_s == gate


@pytest.mark.parametrize("text", ["2.5", "== 3", "<= plan", "<= plan + 1", "<= -1", "<= 1s", "=<1"])
def test_what_is_no_gate_is_refused(text: str) -> None:
    assert f"{text!r} is not a gate" in problem(SMALL + f"gates: {{ttft_s: '{text}'}}\n")


@given(
    st.sampled_from(["<=", ">=", "<", ">"]),
    st.integers(0, 10**5).map(lambda n: n / 100),
    st.booleans(),
)
def test_a_gate_is_shown_as_it_is_written(op: str, number: float, times_plan: bool) -> None:
    gate = Gate.model_validate({"op": op, "number": number, "times_plan": times_plan})
    read_back = parse(SMALL + f"gates: {{ttft_s: '{gate}'}}\n").gates.ttft_s
    assert read_back is not None
    assert (read_back.op, read_back.times_plan) == (op, times_plan)
    assert read_back.number == pytest.approx(number, rel=1e-5)
