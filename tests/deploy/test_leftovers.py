"""What a killed Leadline left running is ended, and nothing else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from leadline.deploy.leftovers import OWNER, end_leftovers


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    owners = ["one", "another", ""]
    made = [
        subprocess.Popen(["/bin/sleep", "60"], env={**os.environ, OWNER: owner}) for owner in owners
    ]
    yield made
    for sleeper in made:
        sleeper.kill()
        sleeper.wait()


def test_only_what_this_run_started_is_ended(sleepers: list[subprocess.Popen[bytes]]) -> None:
    own, *others = sleepers
    assert end_leftovers("one") == [f"pid {own.pid} (sleep)"]
    assert not psutil.pid_exists(own.pid)
    assert [other.poll() for other in others] == [None, None]
    assert end_leftovers("one") == []
