"""``leadline engines`` and ``leadline models`` as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.install import toy

from leadline.cli import main
from leadline.cli.engines import word_progress
from leadline.cli.models import _SHAPES
from leadline.engines.installed import Installed, engines_folder, list_installed, write_stamp
from leadline.install import recipe
from leadline.install.environment import Progress
from leadline.models.shapes import SHAPES


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEADLINE_ENGINES", str(tmp_path / "engines"))


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(argv))
    assert isinstance(end.value.code, int)
    return end.value.code


def put(version: str = "0.12.0") -> Installed:
    folder = engines_folder() / f"vllm-{version}-cpu"
    folder.mkdir(parents=True)
    one = Installed("vllm", version, "cpu", "ready", folder, "x", size_bytes=5 << 30)
    write_stamp(one)
    return one


def test_install_prints_the_environment_and_its_steps_go_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.write_index(tmp_path / "index")
    for name, value in toy.use_index(tmp_path / "index", tmp_path / "engines").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(recipe, "read_order", lambda pin, device: toy.order())
    assert run("engines", "install", "toy==1.0", "--device", "cpu", "--json") == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert (facts["schema"], facts["state"]) == ("leadline.engine/1", "ready")
    assert facts["program"] == str(tmp_path / "engines" / "toy-1.0-cpu" / "bin" / "python")
    steps = [line.split(":")[0] for line in printed.err.splitlines() if ":" in line]
    assert steps == ["environment", "packages", "packages", "check"]
    code = "import toyengine"
    assert subprocess.run([facts["program"], "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("pin", ["neuron", "sglang==0.5.6.post2", "nothing==1"])
def test_what_has_no_recipe_is_wrong_use(pin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("engines", "install", pin, "--device", "cpu") == 3
    assert "cure:" in capsys.readouterr().err
    assert list_installed() == []


def test_list_says_what_is_there_and_what_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    put()
    assert run("engines", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("vllm==0.12.0  cpu  ready  5 GiB  /")
    offered = [line for line in lines[1:] if line.startswith("vllm==0.12.0")]
    assert [line.split()[1] for line in offered] == ["cuda"]

    assert run("engines", "list", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert [one["version"] for one in content["engines"]] == ["0.12.0"]
    assert all(offer["disk_bytes"] > offer["download_bytes"] for offer in content["offered"])


def test_remove_asks_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = put()
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    assert run("engines", "remove", "vllm==0.12.0") == 0
    assert one.folder.exists()
    assert run("engines", "remove", "vllm==0.12.0", "--yes") == 0
    assert not one.folder.exists()
    assert run("engines", "remove", "vllm==0.12.0", "--yes") == 3
    assert "is not installed" in capsys.readouterr().err


def test_a_step_says_how_far_and_how_long() -> None:
    assert word_progress(Progress("check", "asking")) == "check: asking"
    step = Progress("packages", "torch 2", 1 << 30, 4 << 30, 65.0)
    assert word_progress(step) == "packages: torch 2 (1 GiB of 4 GiB; about 65 s left)"


def test_make_tiny_takes_the_tokenizer_of_the_quickstart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--shape", "swa", "--window", "10M", "--layers", "1", "--heads", "1")
    assert run("models", "make-tiny", "m", *options, "--kv-heads", "1", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["files"]["model.safetensors"] > 6_000_000
    config = json.loads(Path("m/config.json").read_bytes())
    assert config["max_position_embeddings"] == 10_485_760
    assert config["vocab_size"] == 49_152
    assert run("models", "make-tiny", "m") == 3


def test_the_shapes_of_the_command_are_those_there_are() -> None:
    assert set(_SHAPES) == set(SHAPES)


def test_unpack_of_nothing_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "unpack", "none.gguf", "out") == 3
    assert "not a GGUF" in capsys.readouterr().err


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "list") == 0
    printed = capsys.readouterr().out
    assert "smollm2  runs:" in printed
    assert "meta-llama/Llama-4-Scout-17B-16E-Instruct  plans" in printed
    assert run("models", "list", "--json") == 0
    assert "smollm2" in json.loads(capsys.readouterr().out)["packaged"]


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, leadline.cli; "
        "print([m for m in ('numpy', 'gguf', 'rich', 'orjson') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown == "[]\n"
