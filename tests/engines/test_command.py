"""Settings become a command line that the engine reads as they were meant."""

from __future__ import annotations

import pytest

from leadline.engines.command import write_options
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.errors import SpecError
from leadline.launch import Launch


def _launch(**settings: object) -> Launch:
    launch = load_engine("vllm").launch
    assert launch
    return launch(LaunchRequest("/models/tiny/", 8123, settings, {"A": "1"}))


def test_every_kind_of_value_has_its_form() -> None:
    settings = {
        "max_num_seqs": 4,
        "enforce_eager": True,
        "enable-prefix-caching": False,
        "hf_overrides": {"rope": [1, 2]},
        "--dtype": "bfloat16",
    }
    assert list(write_options(settings, {}, negate=True)) == [
        "--max-num-seqs", "4",
        "--enforce-eager",
        "--no-enable-prefix-caching",
        "--hf-overrides", '{"rope":[1,2]}',
        "--dtype", "bfloat16",
    ]  # fmt: skip
    assert list(write_options({"log": False}, {}, negate=False)) == []


def test_vllm_is_bound_to_this_machine_and_its_window_is_exact() -> None:
    launch = _launch(max_model_len="2M")
    assert launch.argv[:6] == (
        "vllm", "serve", "/models/tiny/", "--served-model-name", "tiny", "--host",
    )  # fmt: skip
    assert launch.argv[6] == "127.0.0.1"
    assert launch.argv[-2:] == ("--max-model-len", "2097152")
    assert launch.env["VLLM_HOST_IP"] == "127.0.0.1"
    assert launch.env["A"] == "1"


@pytest.mark.parametrize("setting", ["api_key", "hf-token", "port", "served_model_name"])
def test_secrets_and_what_leadline_sets_are_refused(setting: str) -> None:
    with pytest.raises(SpecError) as caught:
        _launch(**{setting: "x"})
    assert caught.value.where.startswith("settings.")
    assert caught.value.cure


def test_a_window_that_is_no_number_is_refused_before_any_start() -> None:
    with pytest.raises(SpecError, match="is not a token count"):
        _launch(max_model_len="long")
