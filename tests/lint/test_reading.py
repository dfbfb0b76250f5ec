"""Every kind of file, down to the line of what is wrong; and files that are none of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.errors import PlanError, SpecError
from leadline.lint.check import lint_text
from leadline.lint.fixing import fix_text
from leadline.lint.reading import read_file

VLLM = ("vllm==0.12.0",)

SCRIPT = """#!/bin/bash
# a server
MODEL=${MODEL:-meta-llama/Llama-3.3-70B-Instruct}
ARGS=(--max-model-len 8192
      --no-such-thing 1)
if true; then
  nohup vllm serve "$MODEL" "${ARGS[@]}" > log 2>&1 &
fi
"""
COMPOSE = """
services:
  web: {image: nginx}
  vllm:
    image: vllm/vllm-openai:v0.12.0
    command: >-
      --model m
      --no-such-thing 1
    environment:
      - HF_TOKEN
    healthcheck: {test: curl -f localhost:8000/health, timeout: 1m30s}
"""
KUBERNETES = """
apiVersion: apps/v1
kind: StatefulSet
spec:
  template:
    spec:
      containers:
        - image: lmsysorg/sglang:v0.5.6
          command: [bash, -c]
          args:
            - |
              set -e
              python3 -m sglang.launch_server --model-path m \\
                --no-such-thing 1
"""
CAMPAIGN = """
name: c
model: m
deployments:
  one:
    engine: vllm==0.12.0
    settings:
      max_model_len: 2M
      no_such_thing: 1
  two: {extends: one, settings: {max_num_seqs: 8}}
"""
VALUES = """
servingEngineSpec:
  modelSpec:
    - name: served
      repository: vllm/vllm-openai
      tag: v0.12.0
      pvcStorage: 230Gi
      vllmConfig:
        extraArgs:
          - --max-num-seqs
          - "8"
          - --no-such-thing
      env:
        - {name: HF_HOME, value: /root/.cache/huggingface}
"""
PYTHON = """
import vllm
KW = dict(max_model_len=2**13)
engine = vllm.AsyncEngineArgs(
    "m",
    no_such_thing=1,
    **KW,
)
def LLM(no_such_thing): ...
LLM(no_such_thing=1)
"""


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.sh", SCRIPT, 5),
        ("compose.yaml", COMPOSE, 7),
        ("k8s.yml", KUBERNETES, 14),
        ("campaign.yaml", CAMPAIGN, 9),
        ("x.values.yaml", VALUES, 12),
        ("a.py", PYTHON, 6),
    ],
)
def test_what_is_wrong_is_found_at_its_line(name: str, text: str, line: int) -> None:
    found = [each for each in lint_text(name, text) if each.code == "ARG001"]
    assert {each.line for each in found} == {line}


def test_weights_outside_of_the_claim_of_a_chart_are_not_kept() -> None:
    """The chart points HF_HOME to its claim; a variable of the model's own wins over that."""
    outside = {each.code for each in lint_text("x.values.yaml", VALUES)}
    within = {each.code for each in lint_text("x.values.yaml", VALUES.partition("      env:")[0])}
    assert outside - within == {"CTR008"}


def test_variables_arrays_and_defaults_are_followed() -> None:
    command = read_file("a.sh", SCRIPT).commands[0]
    assert command.model == "meta-llama/Llama-3.3-70B-Instruct"
    assert command.window == 8192


def test_what_a_variable_holds_is_not_judged() -> None:
    text = 'vllm serve m --max-num-seqs "$N" --dtype $DTYPE --max-model-len $((2 * 3))'
    assert not [f for f in lint_text("a.sh", text, VLLM) if f.code.startswith("ARG")]


def test_keywords_through_a_dictionary_and_a_power() -> None:
    assert read_file("a.py", PYTHON).commands[0].window == 8192


def test_an_abbreviation_is_the_option_that_it_stands_for() -> None:
    command = read_file("a.sh", "python -m sglang.launch_server --model-path m --tp 8").commands[0]
    assert command.tensor == 8


def test_keywords_taken_out_at_the_end_of_a_line_leave_its_comma() -> None:
    text = """from vllm import LLM
llm = LLM("m", max_num_seqs=1, device="neuron", use_v2_block_manager=True,
          max_model_len=2048)
"""
    fixed = fix_text(text, lint_text("a.py", text, ("vllm==0.13.0",)))
    assert 'LLM("m", max_num_seqs=1,\n          max_model_len=2048)' in fixed


@given(
    keywords=st.permutations(
        ["max_num_seqs=1", 'device="neuron"', "use_v2_block_manager=True", "max_model_len=2048"]
    ),
    gaps=st.lists(st.sampled_from([", ", ",", ",\n    ", " ,\n    "]), min_size=4, max_size=4),
    end=st.sampled_from(["", ",", ",\n", "\n", " "]),
)
def test_what_is_fixed_can_still_be_read(keywords: list[str], gaps: list[str], end: str) -> None:
    words = "".join(gap + word for gap, word in zip(gaps, keywords, strict=True))
    text = f'from vllm import LLM\nllm = LLM("m"{words}{end})\n'
    fixed = fix_text(text, lint_text("a.py", text, ("vllm==0.13.0",)))
    given = {
        argument.name: argument.value for argument in read_file("a.py", fixed).commands[0].arguments
    }
    assert given == {"max_num_seqs": 1, "max_model_len": 2048}


def test_a_class_of_ones_own_is_not_the_engines() -> None:
    assert len(read_file("a.py", PYTHON).commands) == 1


@pytest.mark.parametrize(
    "line",
    [
        "vllm serve m --max-model-len=1K",
        "sudo docker run -it --rm --gpus=all vllm/vllm-openai:v0.12.0 --model m",
        "env A=1 python3.11 -m vllm.entrypoints.openai.api_server --model m",
        "bash -c 'vllm serve m'",
        "vllm serve m --hf-overrides.rope_theta 1 -O3 --no-enable-prefix-caching",
        "vllm serve m --max_model_len 9 --cudagraph-capture-sizes 1 2 4",
        'vllm serve m --kv-transfer-config \'{"kv_connector": "x"}\'',
    ],
)
def test_ways_of_writing_a_right_command(line: str) -> None:
    assert len(read_file("a.sh", line).commands) == 1
    assert not [f for f in lint_text("a.sh", line, VLLM) if f.code.startswith("ARG")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "LLM(model="),
        ("a.yaml", "a: [1"),
        ("a.yaml", "a: 1"),
        ("a.yaml", ""),
        ("a.sh", "if then ((("),
        ("campaign.yaml", "deployments: {a: {engin: vllm}}"),
    ],
)
def test_what_cannot_be_read_is_wrong_use(name: str, text: str) -> None:
    with pytest.raises(SpecError):
        lint_text(name, text)


@pytest.mark.parametrize("engine", ["vllm", "tgi==1.0", "vllm==0.1.0", "neuron==9.9"])
def test_an_engine_that_is_not_known_is_wrong_use(engine: str) -> None:
    with pytest.raises((SpecError, PlanError)):
        lint_text("a.sh", "vllm serve m", (engine,))


def test_a_fix_keeps_everything_else() -> None:
    before = (
        "#!/bin/sh\n# keep me\ndocker run -p 8000:8000 \\\n  -e HF_TOKEN=$HF_TOKEN \\\n"
        "  vllm/vllm-openai:v0.12.0 --model m \\\n  --max-num-partial-prefills 2 \\\n"
        "  --max-modle-len 9   # and me\n"
    )
    after = fix_text(before, lint_text("a.sh", before))
    assert after == (
        "#!/bin/sh\n# keep me\ndocker run -p 127.0.0.1:8000:8000 \\\n  -e HF_TOKEN \\\n"
        "  vllm/vllm-openai:v0.12.0 --model m \\\n"
        "  --max-modle-len 9   # and me\n"
    )
    assert fix_text(after, lint_text("a.sh", after)) == after


def test_a_fix_of_python_takes_whole_keywords() -> None:
    before = (
        "from vllm import LLM\nllm = LLM(\n    model='ü',  # keep\n    device='neuron',\n"
        "    use_v2_block_manager=True,\n)\nx = LLM('m', device='cuda')\n"
    )
    after = fix_text(before, lint_text("a.py", before, ("vllm==0.13.0",)))
    assert after == ("from vllm import LLM\nllm = LLM(\n    model='ü',  # keep\n)\nx = LLM('m')\n")


def test_a_fix_respells_the_key() -> None:
    before = "vllm serve m --additional-config '{\"override-neuron-config\": {}}'\n"
    after = fix_text(before, lint_text("a.sh", before, ("neuron==0.4.1",)))
    assert after == before.replace("override-neuron-config", "override_neuron_config")
