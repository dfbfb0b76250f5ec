"""Real environments and a real pip, on an index that lies in a folder."""

from __future__ import annotations

import fcntl
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.install import toy

from leadline.engines.installed import STAMP, Installed, find_program, list_installed, write_stamp
from leadline.errors import DeployError, SpecError
from leadline.install.environment import Progress, batch, choose, install, remove
from leadline.install.pip import Pip
from leadline.install.recipe import Package

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with pip and nothing else; making one takes seconds."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder


class Place(NamedTuple):
    index: Path
    folder: Path


@pytest.fixture
def place(tmp_path: Path, bare: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """As a killed install leaves it before the first package."""
    toy.write_index(tmp_path / "index")
    for name, value in toy.use_index(tmp_path / "index", tmp_path / "engines").items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "engines" / "toy-1.0-cpu"
    shutil.copytree(bare, folder, symlinks=True)
    write_stamp(Installed("toy", "1.0", "cpu", "unfinished", folder, "nothing"))
    return Place(tmp_path / "index", folder)


def install_toy(**changes: bool) -> tuple[Installed, list[Progress]]:
    seen: list[Progress] = []
    return install(toy.order(**changes), None, seen.append), seen


def test_an_install_ends_with_a_stamp_and_the_version_that_the_engine_said(place: Place) -> None:
    installed, seen = install_toy()
    assert (installed.state, installed.reported_version) == ("ready", "1.0")
    assert installed.size_bytes > 1_000_000
    assert [each.phase for each in seen] == ["packages", "packages", "check"]
    assert seen[0].remaining_s is None
    assert seen[1].done_bytes == 60_000_001
    assert seen[1].remaining_s is not None
    assert list_installed() == [installed]
    assert not (place.folder / "tmp").exists()


def test_the_program_is_found_by_the_pin(place: Place) -> None:
    install_toy()
    assert find_program("toy==1.0") == str(place.folder / "bin" / "python")


def test_the_engine_finds_itself_under_its_other_name(place: Place) -> None:
    install_toy()
    code = "import importlib.metadata as m; print(m.version('toy'))"
    run = subprocess.run(
        [place.folder / "bin" / "python", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout == "1.0+cpu\n"


def test_one_that_is_ready_is_not_touched(place: Place) -> None:
    first, _ = install_toy()
    again, seen = install_toy()
    assert again == first
    assert seen == []


def test_a_killed_install_goes_on_with_what_is_owed(place: Place) -> None:
    script = """
        import os, signal
        from leadline.install.environment import install
        from tests.install import toy

        def kill_at_the_engine(progress):
            if "toyengine" in progress.text:
                os.kill(os.getpid(), signal.SIGKILL)

        install(toy.order(), None, kill_at_the_engine)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [one.state for one in list_installed()] == ["unfinished"]
    assert set(Pip(place.folder).installed()) >= {"toytorch"}

    _, seen = install_toy()
    assert [each.text for each in seen if each.phase == "packages"] == ["toyengine 1.0"]
    assert list_installed()[0].state == "ready"


def test_a_package_that_pip_left_half_written_is_written_again(place: Place) -> None:
    pip = Pip(place.folder)
    pip.install(["toytorch==2.0", "toyengine==1.0"], "--no-deps")
    # pip writes the package, then INSTALLER, REQUESTED and RECORD.
    for name in ("REQUESTED", "RECORD"):
        (pip.site_packages() / "toyengine-1.0.dist-info" / name).unlink()
    (pip.site_packages() / "toyengine" / "__init__.py").write_text("", encoding="utf-8")
    installed, seen = install_toy()
    assert [each.text for each in seen if each.phase == "packages"] == ["toyengine 1.0"]
    assert installed.reported_version == "1.0"


def test_without_a_lock_pip_resolves_and_what_harms_is_taken_out(place: Place) -> None:
    Pip(place.folder).install(["toyvision==2.0"])
    install_toy(locked=False)
    assert "toyvision" not in Pip(place.folder).installed()


def test_a_version_that_is_not_there_names_the_nearest(place: Place) -> None:
    unknown = toy.order("1.1", locked=False)
    shutil.copytree(place.folder, place.folder.with_name("toy-1.1-cpu"), symlinks=True)
    with pytest.raises(DeployError, match=r"pip finds no toyengine 1\.1") as refusal:
        install(unknown, None, lambda _: None)
    assert refusal.value.cure == "nearest there: 1.0, 0.9"


def test_no_network_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DeployError, match="the package index cannot be reached"):
        install_toy()
    assert list_installed()[0].state == "unfinished"


def test_an_engine_that_says_another_version_is_not_ready(place: Place) -> None:
    shutil.copytree(place.folder, place.folder.with_name("toy-0.9-cpu"), symlinks=True)
    with pytest.raises(DeployError, match=r"it says it is '0\.8'") as refusal:
        install(toy.order("0.9"), None, lambda _: None)
    assert "leadline engines remove toy==0.9 --device cpu" in refusal.value.cure
    assert {one.state for one in list_installed()} == {"unfinished"}


def test_an_engine_that_cannot_be_started_is_not_ready(place: Place) -> None:
    broken = toy.order()
    recipe = broken.recipe.model_copy(update={"version_check": ("bin/none",)})
    with pytest.raises(DeployError, match=r"does not run: .*No such file"):
        install(broken._replace(recipe=recipe), None, lambda _: None)


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    with pytest.raises(DeployError, match="977 KiB are free"):
        install_toy()
    assert "toytorch" not in Pip(place.folder).installed()


def test_two_installs_at_once_are_refused(place: Place) -> None:
    with (place.folder.parent / ".toy-1.0-cpu.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeployError, match="another leadline"):
            install_toy()


def test_a_folder_of_somebody_else_is_left_alone(place: Place) -> None:
    (place.folder / STAMP).unlink()
    with pytest.raises(DeployError, match="not ours"):
        install_toy()
    with pytest.raises(SpecError, match="not installed"):
        choose("toy==1.0", None)
    assert (place.folder / "bin" / "python").exists()


def test_remove_takes_away_one_environment_and_nothing_beside_it(place: Place) -> None:
    other = place.folder.parent / "mine"
    other.mkdir()
    remove(choose("toy==1.0", "cpu"))
    assert not place.folder.exists()
    assert other.exists()
    assert list_installed() == []


def test_a_folder_that_cannot_be_written_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEADLINE_ENGINES", str(tmp_path / "file"))
    with pytest.raises(DeployError) as refusal:
        install_toy()
    assert "LEADLINE_ENGINES" in refusal.value.cure


def test_large_packages_come_first_and_small_ones_together() -> None:
    sizes = {"small": 1, "torch": 900_000_000, "numpy": 30_000_000, "vllm": 90_000_000}
    packages = [Package(name, "1", size) for name, size in sizes.items()]
    names = [[package.name for package in each] for each in batch(packages)]
    assert names == [["torch"], ["vllm"], ["numpy", "small"]]
