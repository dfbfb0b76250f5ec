from __future__ import annotations

import sys
from pathlib import Path

import pytest

from leadline.campaign.serving import plan_launch
from leadline.engines import installed
from leadline.engines.installed import (
    STAMP,
    Installed,
    State,
    engines_folder,
    find_program,
    list_installed,
    write_stamp,
)
from leadline.errors import DeployError
from leadline.spec import Deployment


@pytest.fixture(autouse=True)
def _empty_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADLINE_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(installed, "local_device", lambda: "cpu")


def put(
    version: str, engine: str = "vllm", device: str = "cpu", state: State = "ready"
) -> Installed:
    folder = engines_folder() / f"{engine}-{version}-{device}"
    folder.mkdir(parents=True)
    one = Installed(engine, version, device, state, folder, str(folder / "bin" / engine))
    write_stamp(one)
    return one


def put_on_path(name: str, tmp_path: Path) -> None:
    program = tmp_path / "bin" / name
    program.parent.mkdir()
    program.touch(0o755)


def test_what_is_written_is_read_back_in_the_order_of_versions() -> None:
    written = [put("0.12.0"), put("0.9.2"), put("0.12.0", device="cuda"), put("1", "llamacpp")]
    newest, older, other_device, first = written
    assert list_installed() == [first, older, newest, other_device]


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "leadline.engine/2"}', "{}"])
def test_a_stamp_that_is_not_ours_is_none(content: str) -> None:
    (put("0.12.0").folder / STAMP).write_text(content, encoding="utf-8")
    assert list_installed() == []


def test_a_pin_means_its_environment_even_with_one_on_the_path(tmp_path: Path) -> None:
    put_on_path("vllm", tmp_path)
    put("0.32.0")
    old = put("0.12.0")
    assert find_program("vllm==0.12.0") == old.program
    assert find_program("vllm==0.13.0") is None
    assert find_program("vllm") is None


def test_without_a_pin_and_a_program_on_the_path_it_is_the_newest() -> None:
    newest = put("0.32.0")
    put("0.9.0")
    assert find_program("vllm") == newest.program


def test_of_two_devices_it_is_the_one_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    on = {device: put("0.32.0", device=device) for device in ("cuda", "cpu")}
    assert find_program("vllm==0.32.0") == on["cpu"].program
    monkeypatch.setattr(installed, "local_device", lambda: "cuda")
    assert find_program("vllm==0.32.0") == on["cuda"].program


def test_an_unfinished_environment_is_none_and_the_cure_is_the_install() -> None:
    put("0.12.0", state="unfinished")
    with pytest.raises(DeployError, match=r"vllm==0\.12\.0 is not installed") as refusal:
        find_program("vllm==0.12.0")
    assert refusal.value.cure.startswith("leadline engines install vllm==0.12.0 --device cpu")


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEADLINE_ENGINES")
    monkeypatch.setenv("XDG_DATA_HOME", "/x")
    assert engines_folder() == Path("/x/leadline/engines")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert engines_folder() == Path.home() / ".local/share/leadline/engines"


def test_a_deployment_starts_the_environment_of_its_pin() -> None:
    managed = put("0.12.0")
    launch = plan_launch(Deployment(engine="vllm==0.12.0", model="/m/tiny"), port=1)
    assert launch.argv[:3] == (managed.program, "serve", "/m/tiny")


def test_an_executable_comes_before_the_environment() -> None:
    put("0.12.0")
    given = Deployment.model_validate(
        {"engine": "vllm==0.12.0", "model": "m", "target": {"kind": "process", "executable": "/v"}}
    )
    assert plan_launch(given, port=1).argv[0] == "/v"


def test_llamacpp_runs_our_server_under_the_python_that_has_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = engines_folder() / "llamacpp-1-cpu"
    folder.mkdir(parents=True)
    python = str(folder / "bin" / "python")
    write_stamp(Installed("llamacpp", "1", "cpu", "ready", folder, python))
    pinned = plan_launch(Deployment(engine="llamacpp==1", model="/m/x.gguf"), port=1)
    assert pinned.argv[0] == python
    assert Path(pinned.argv[1]).name == "llamacpp_server.py"
    unpinned = Deployment(engine="llamacpp", model="/m/x.gguf")
    embedded = plan_launch(unpinned, port=1)
    monkeypatch.setattr(installed, "find_spec", lambda _: None)
    assert plan_launch(unpinned, port=1).argv[0] == python
    assert embedded.argv[:2] == (sys.executable, "-m")
