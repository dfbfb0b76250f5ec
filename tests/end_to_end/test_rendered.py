"""What ``leadline render`` writes for one machine, run as its first lines say, with a real engine.

The plan is of eight H200; the program in the container is not vLLM, but the embedded engine under
the options that vLLM would get.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from tests.containers.compose import compose_command
from tests.containers.daemon import IMAGE, mounts
from tests.end_to_end.conftest import LEADLINE

from leadline.catalog.assets import asset_path
from leadline.deploy.containers import find_ours
from leadline.deploy.process import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

STAND_IN = """#!{python}
import os, sys
sys.path[:0] = {packages!r}
given = dict(zip(sys.argv, sys.argv[1:]))
assert sys.argv[1] == "serve"
assert given["--max-model-len"] == "1048576"
if os.environ["HF_TOKEN"] != "hf_of_the_file":
    sys.exit("no token")
os.execv({python!r}, [
    {python!r}, "-c",
    "import sys; sys.path[:0] = {packages!r};"
    "from leadline.engines.llamacpp_server import main; main()",
    "--model", {model!r}, "--alias", given["--served-model-name"], "--ctx-size", "1024",
    "--host", given["--host"], "--port", given["--port"],
])
"""


@dataclass(frozen=True)
class Rendered:
    name: str
    folder: Path
    url: str

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """In the folder of the files, with what a user's shell finds."""
        return subprocess.run(
            [*map(str, words)], cwd=self.folder, capture_output=True, text=True, check=False
        )

    def compose(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(*compose_command(), "-f", f"{self.name}.compose.yaml", *words)

    def write_secrets(self, token: str) -> None:
        file = self.folder / f"{self.name}.env"
        file.write_text(f"HF_TOKEN={token}\n")
        file.chmod(0o600)

    def generate(self) -> str:
        body = {"model": "Llama-4-Scout-17B-16E-Instruct", "prompt": "In the beginning"}
        request = urllib.request.Request(
            f"{self.url}/v1/completions",
            json.dumps({**body, "max_tokens": 4}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return str(json.load(answer)["choices"][0]["text"])


@pytest.fixture
def rendered(
    client: docker.DockerClient, campaign_file: Callable[..., Path], name: str, tmp_path: Path
) -> Iterator[Rendered]:
    program = tmp_path / "vllm"
    python = os.path.realpath(sys.executable)
    program.write_text(
        STAND_IN.format(
            python=python,
            packages=[path for path in sys.path if path.endswith(("src", "site-packages"))],
            model=str(asset_path("models", "smollm2")),
        )
    )
    program.chmod(0o755)
    port = free_port()
    deployment = {
        "engine": "vllm==0.12.0",
        "settings": {"tensor_parallel_size": 8, "max_model_len": "1M"},
        "target": {
            "kind": "docker",
            "image": IMAGE,
            "pull": "never",
            "executable": str(program),
            "devices": 0,
            "port": port,
            "volumes": [*mounts(), f"{tmp_path}:{tmp_path}:ro", f"{name}-weights:/root/.cache"],
        },
    }
    file = campaign_file(
        name=name,
        model="meta-llama/Llama-4-Scout-17B-16E-Instruct",
        hardware="8xH200",
        deployments={"vllm": deployment},
    )
    folder = tmp_path / "rendered"
    kinds = ("--as", "docker", "--as", "compose")
    subprocess.run([*LEADLINE, "render", file, "--out", folder, *kinds], check=True)
    made = Rendered(f"{name}-vllm", folder, f"http://127.0.0.1:{port}")
    yield made
    for container in ours(client, made.name):
        container.remove(force=True)
    for volume in client.volumes.list(filters={"name": name}):
        volume.remove(force=True)


def ours(client: docker.DockerClient, name: str) -> list[Any]:
    return [found for found in find_ours(client) if found.name == name]


def test_a_compose_project_comes_up_serves_and_goes(
    rendered: Rendered, client: docker.DockerClient
) -> None:
    refused = rendered.compose("up", "--detach", "--wait")
    assert refused.returncode != 0
    assert f"{rendered.name}.env" in refused.stderr

    rendered.write_secrets("hf_of_the_file")
    try:
        raised = rendered.compose("up", "--detach", "--wait")
        assert raised.returncode == 0, raised.stderr
        assert rendered.generate()
        (container,) = ours(client, rendered.name)
        assert container.attrs["State"]["Health"]["Status"] == "healthy"
        shown = subprocess.run(
            [*LEADLINE, "status", rendered.name, "--json"], capture_output=True, check=False
        )
        (service,) = json.loads(shown.stdout)["services"]
        assert (service["phase"], service["standing"]["owner"]) == ("ready", "")
    finally:
        gone = rendered.compose("down", "--volumes")
    assert gone.returncode == 0, gone.stderr
    assert ours(client, rendered.name) == []
    assert client.networks.list(names=[rendered.name]) == []


def test_the_script_waits_until_it_is_ready_or_has_failed(
    rendered: Rendered, client: docker.DockerClient
) -> None:
    """The first time the file of secrets is made, and is empty: the server does not stay up."""
    failed = rendered.run(f"./run-{rendered.name}.sh")
    assert failed.returncode == 2
    assert f"wrote {rendered.name}.env: put HF_TOKEN and VLLM_API_KEY there" in failed.stderr
    assert "no token" in failed.stderr
    assert "die: exit code 1" in failed.stderr
    (container,) = ours(client, rendered.name)
    assert container.status == "exited"
    container.remove()

    assert (rendered.folder / f"{rendered.name}.env").stat().st_mode & 0o777 == 0o600
    rendered.write_secrets("hf_of_the_file")
    raised = rendered.run(f"./run-{rendered.name}.sh")
    assert raised.returncode == 0, raised.stderr
    assert f"s: {rendered.url}" in raised.stderr
    assert rendered.generate()
    down = [*LEADLINE, "down", rendered.name]
    assert subprocess.run(down, capture_output=True, check=False).returncode == 0
    assert ours(client, rendered.name) == []
