"""What both kits' documents printed, and what `leadline lint` says to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadline.lint.check import lint_text
from leadline.lint.finding import Finding

DATA = Path(__file__).parent / "data"


def lint(name: str, *engines: str) -> list[Finding]:
    return lint_text(name, (DATA / name).read_text(), engines)


def errors(found: list[Finding]) -> dict[str, str]:
    return {each.what: each.code for each in found if each.severity == "error"}


def test_the_vendors_example_gets_each_fault_with_the_version_that_removed_it() -> None:
    found = errors(lint("llama33_vendor.py", "neuron==0.4.1"))
    assert found == {
        "device was removed in vllm 0.10.0 (last in 0.9.2)": "ARG002",
        "use_v2_block_manager was removed in vllm 0.10.0 (last in 0.9.2)": "ARG002",
        "override_neuron_config was removed in vllm 0.10.2 (last in 0.10.1.1)": "ARG002",
        "prefix caching is on (by default) and block_size is not set": "NEU004",
    }


@pytest.mark.parametrize("version", ["0.7.2", "0.9.1"])
def test_the_same_arguments_pass_where_they_were_right(version: str) -> None:
    assert not errors(lint("llama33_vendor.py", f"vllm=={version}"))


def test_between_the_removals_only_what_was_removed_is_at_fault() -> None:
    found = errors(lint("llama33_vendor.py", "vllm==0.10.0"))
    assert {what.split()[0] for what in found} == {"device", "use_v2_block_manager"}


def test_deprecation_is_named_with_its_release() -> None:
    found = [each.what for each in lint("llama33_vendor.sh".replace("sh", "py"), "vllm==0.9.1")]
    assert not [what for what in found if "removed in vllm" in what and "deprecated" not in what]


def test_the_hyphenated_key_is_an_error_and_the_only_one() -> None:
    found = lint("llama33_vendor.sh", "neuron==0.4.1")
    assert errors(found) == {
        "additional_config has 'override-neuron-config', which the plugin does not read": "NEU001"
    }
    assert next(each.line for each in found if each.code == "NEU001") == 8


def test_several_versions_are_told_apart() -> None:
    found = lint("llama33_vendor.py", "vllm==0.9.1", "vllm==0.13.0", "vllm==0.16.0")
    removed = next(each for each in found if each.what.startswith("device was removed"))
    assert removed.versions == ("vllm==0.13.0", "vllm==0.16.0")


def test_the_scout_kits_docker_commands() -> None:
    vllm = {each.code for each in lint("scout_vllm.sh")}
    assert vllm >= {"CTR002", "SEC001", "SEC002", "SET002", "CTR012"}
    assert not {code for code in vllm if code.startswith("ARG")}
    sglang = {each.code: each for each in lint("scout_sglang.sh")}
    assert sglang.keys() >= {"SET003", "SET004", "CTR002"}
    assert "16 GiB" in sglang["SET003"].what
    assert "--max-running-requests" in sglang["SET004"].cure
    assert sglang["SET003"].versions == ("sglang==0.5.6.post2-runtime",) or sglang[
        "SET003"
    ].versions == ("sglang==0.5.6.post2",)


def test_the_scout_kits_documented_flags_are_right_for_their_versions() -> None:
    for name in ("scout_vllm.sh", "scout_sglang.sh"):
        assert not [each for each in lint(name) if each.code.startswith("ARG")]


def test_the_scout_kits_manifest() -> None:
    found = {each.code for each in lint("scout_vllm.yaml")}
    assert found >= {"KUB001", "KUB002", "KUB003", "KUB004", "KUB006", "KUB007", "KUB008", "SEC001"}
    assert "KUB005" not in found
