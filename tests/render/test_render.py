"""What is rendered: right by the tools that judge such files, and exactly what would be run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from tests.containers.compose import compose_command

from leadline.cli.main import cli
from leadline.errors import PlanError, SpecError
from leadline.plan.deployment import plan_deployment
from leadline.plan.hardware import parse_hardware
from leadline.render.bundle import KINDS, render_service, suitable_kinds
from leadline.render.docker import run_arguments
from leadline.render.kubernetes import list_objects, ready_program
from leadline.render.select import describe_services
from leadline.render.service import Service, describe_service, label
from leadline.spec import Deployment, parse_campaign, read_campaign

EXAMPLES = Path(__file__).parents[2] / "examples"
CAMPAIGNS = [EXAMPLES / "llama33-neuron" / "llama33.yaml", EXAMPLES / "scout" / "scout.yaml"]
SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
SHELLCHECK = Path(sys.executable).parent / "shellcheck"


def all_services() -> list[Service]:
    return [
        service
        for path in CAMPAIGNS
        for service in describe_services(read_campaign(path), (), try_infeasible=False)[0]
    ]


def all_files() -> dict[str, str]:
    files: dict[str, str] = {}
    for service in all_services():
        files |= render(service)
    return files


def render(service: Service) -> dict[str, str]:
    kinds = suitable_kinds(service)
    return render_service(service, kinds, made_from="x.yaml", namespace="models")


def make_service(
    hardware: str = "8xH200",
    engine: str = "vllm==0.12.0",
    env: dict[str, str] | None = None,
    target: Any = "docker",
    **own: Any,
) -> Service:
    given_settings = {"tensor_parallel_size": 8, "max_model_len": "2M", "max_num_seqs": 8} | own
    deployment = Deployment(
        engine=engine, model=SCOUT, settings=given_settings, env=env or {}, target=target
    )
    plan = plan_deployment(SCOUT, hardware, engine, settings=given_settings, env=env)
    return describe_service(
        "scout", "vllm", deployment, plan, parse_hardware(hardware), output_tokens=200
    )


def documents(text: str) -> list[Any]:
    return list(YAML(typ="safe").load_all(text))


FILES = all_files()


def files_of(suffix: str) -> list[str]:
    return sorted(name for name in FILES if name.endswith(suffix))


def test_both_kits_are_there() -> None:
    assert {"run-scout-vllm-2m.sh", "load_llama33_16k_prefix_caching.py"} <= set(FILES)


@pytest.mark.parametrize("name", files_of(".sh"))
def test_shellcheck_finds_nothing(name: str) -> None:
    checked = subprocess.run(
        [SHELLCHECK, "-"], input=FILES[name], text=True, capture_output=True, check=False
    )
    assert checked.stdout + checked.stderr == ""


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize(
    "name",
    [name for name in files_of(".yaml") if not name.endswith((".compose.yaml", ".values.yaml"))],
)
def test_manifests_are_valid_strictly(name: str, version: str) -> None:
    for document in documents(FILES[name]):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", files_of(".py"))
def test_python_scripts_are_clean(name: str, tmp_path: Path) -> None:
    script = tmp_path / name
    script.write_text(FILES[name])
    ruff = Path(sys.executable).parent / "ruff"
    command = [ruff, "check", "--isolated", "--no-cache", "--select", "E9,F,B,UP", script]
    checked = subprocess.run(command, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout
    shown = subprocess.run(
        [sys.executable, script, "--help"], text=True, capture_output=True, check=False
    )
    assert shown.returncode == 0, shown.stderr


@pytest.mark.docker
@pytest.mark.parametrize("name", files_of(".compose.yaml"))
def test_compose_accepts_the_project(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    (tmp_path / name.replace(".compose.yaml", ".env")).write_text("HF_TOKEN=\n")
    checked = subprocess.run(
        [*compose_command(), "-f", str(path), "config", "--quiet"],
        text=True,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", FILES)
def test_our_own_lint_finds_nothing_but_notes(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    arguments = ["lint", str(path), "--json"]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.return_value == 0
    severe = [f for f in json.loads(result.stdout)["findings"] if f["severity"] != "note"]
    assert severe == []


def test_the_committed_files_are_what_is_rendered_today() -> None:
    stale = []
    for path in EXAMPLES.glob("*/rendered/*"):
        made_from = next(c.name for c in CAMPAIGNS if c.parent == path.parents[1])
        text = FILES[path.name].replace("render x.yaml", f"render {made_from}")
        if path.read_text() != text.replace("namespace: models", "namespace: default").replace(
            "namespace=models", "namespace=default"
        ):
            stale.append(path.name)
    assert not stale, "run `make examples`"
    assert len(list(EXAMPLES.glob("*/rendered/*"))) > 10


# The planner reads what begins with a bracket as JSON, and refuses what is none.
NASTY = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), min_size=1
).filter(lambda text: text.strip()[:1] not in {"[", "{"})


@settings(max_examples=25, deadline=None)
@given(value=NASTY)
def test_no_value_reaches_a_shell(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The script calls docker with just these arguments, whatever the settings hold."""
    folder = tmp_path_factory.mktemp("shell")
    service = make_service(download_dir=value, env={"VALUE": value})
    docker = folder / "docker"
    docker.write_text(
        '#!/bin/sh\n[ "$1" = run ] || exit 0\nprintf "%s\\0" "$@" > "$SEEN"\nexit 9\n'
    )
    docker.chmod(0o755)
    (folder / "run.sh").write_text(render(service)["run-scout-vllm.sh"])
    seen = folder / "seen"
    env = {"PATH": f"{folder}:/usr/bin:/bin", "SEEN": str(seen)}
    subprocess.run(["/bin/bash", folder / "run.sh"], env=env, capture_output=True, check=False)
    words = [
        word for group in run_arguments(service.launch(8000), "scout-vllm.env") for word in group
    ]
    assert seen.read_bytes().split(b"\0")[1:-1] == [word.encode() for word in words]
    assert sorted(path.name for path in folder.iterdir()) == [
        "docker",
        "run.sh",
        "scout-vllm.env",
        "seen",
    ]
    assert (folder / "scout-vllm.env").stat().st_mode & 0o777 == 0o600


@settings(max_examples=25, deadline=None)
@given(value=NASTY)
def test_yaml_and_python_keep_every_value(value: str) -> None:
    service = make_service(download_dir=value, env={"VALUE": value})
    files = render(service)
    deployment = next(d for d in documents(files["scout-vllm.yaml"]) if d["kind"] == "Deployment")
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    assert server["args"] == list(service.arguments)
    assert {"name": "VALUE", "value": value} in server["env"]
    (compose,) = documents(files["scout-vllm.compose.yaml"])
    assert compose["services"]["server"]["environment"]["VALUE"] == value.replace("$", "$$")
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(files["load_scout_vllm.py"], "script", "exec"), names)  # noqa: S102
    assert names["ARGUMENTS"]["download_dir"] == value


def pod(service: Service) -> Mapping[str, Any]:
    found = next(
        d for d in documents(render(service)["scout-vllm.yaml"]) if d["kind"] == "Deployment"
    )
    spec: Mapping[str, Any] = found["spec"]["template"]["spec"]
    return spec


def test_an_offline_script_takes_no_option_of_the_server() -> None:
    text = render(make_service(enable_prompt_tokens_details=True))["load_scout_vllm.py"]
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(text, "script", "exec"), names)  # noqa: S102
    assert set(names["ARGUMENTS"]) == {"tensor_parallel_size", "max_model_len", "max_num_seqs"}
    assert names["ARGUMENTS"]["max_model_len"] == 2_097_152


def test_probes_and_grace_follow_from_the_plan() -> None:
    service = make_service()
    (server,) = pod(service)["containers"]
    start = server["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 2 * service.start.high
    assert pod(service)["terminationGracePeriodSeconds"] > service.request_s
    assert server["livenessProbe"]["httpGet"]["path"] == "/health"
    longer = make_service(
        max_model_len="8M", env={"VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE": "1"}
    )
    assert longer.grace_s > service.grace_s


def test_a_cluster_puts_it_where_the_target_says() -> None:
    taint = {"key": "reserved", "operator": "Equal", "value": "models", "effect": "NoSchedule"}
    service = make_service(
        target={
            "kind": "kubernetes",
            "storage_class": "fast",
            "node_selector": {"gpu": "h200"},
            "tolerations": [taint, {"key": "spot"}],
            "service_account": "puller",
        }
    )
    spec = pod(service)
    assert spec["nodeSelector"] == {"gpu": "h200"}
    assert spec["serviceAccountName"] == "puller"
    own = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert spec["tolerations"] == [own, taint, {"key": "spot", "operator": "Exists"}]
    claims = [item["spec"] for item, _ in list_objects(service, "models")[:2]]
    assert [claim["storageClassName"] for claim in claims] == ["fast", "fast"]
    for item, _ in list_objects(service, "models"):
        kubernetes_validate.validate(item, "1.37", strict=True)


def test_shared_memory_counts_against_the_limit() -> None:
    service = make_service()
    (server,) = pod(service)["containers"]
    shm = next(v for v in pod(service)["volumes"] if v["name"] == "shm")
    assert shm["emptyDir"]["medium"] == "Memory"
    size = int(shm["emptyDir"]["sizeLimit"].removesuffix("Gi"))
    assert int(server["resources"]["limits"]["memory"].removesuffix("Gi")) > size + 8 * 6


def test_secrets_are_only_named() -> None:
    service = make_service()
    (server,) = pod(service)["containers"]
    token = next(v for v in server["env"] if v["name"] == "HF_TOKEN")
    assert "value" not in token
    assert "HF_TOKEN" not in " ".join(service.arguments)
    with pytest.raises(SpecError, match="secret"):
        make_service(hf_token="hf_x")


def test_several_nodes_are_a_leader_and_workers() -> None:
    service = make_service("2x8xH100", tensor_parallel_size=16)
    assert suitable_kinds(service) == ("kubernetes", "client", "helm")
    group = next(
        d for d in documents(render(service)["scout-vllm.yaml"]) if d["kind"] == "LeaderWorkerSet"
    )
    template = group["spec"]["leaderWorkerTemplate"]
    assert template["size"] == 2
    (leader,) = template["leaderTemplate"]["spec"]["containers"]
    (worker,) = template["workerTemplate"]["spec"]["containers"]
    assert "--headless" in worker["args"]
    assert "--headless" not in leader["args"]
    assert "startupProbe" not in worker
    (address,) = [each for each in worker["env"] if each["name"] == "VLLM_HOST_IP"]
    assert address["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"


def test_a_release_that_cannot_span_nodes_is_refused() -> None:
    with pytest.raises(PlanError, match="cannot span 2 nodes"):
        render(make_service("2x8xH100", "vllm==0.11.0", tensor_parallel_size=16))


def test_the_readiness_program_asks_for_the_model() -> None:
    program = ready_program(make_service())
    compile(program, "probe", "exec")
    assert "Llama-4-Scout-17B-16E-Instruct" in program


def test_names_are_dns_labels() -> None:
    assert label("Scout_2M / vLLM==0.12.0") == "scout-2m-vllm-0-12-0"
    assert len(label("x" * 99)) == 63


CAMPAIGN = f"""
name: c
model: {SCOUT}
hardware: 8xH200
deployments:
  fits:
    engine: vllm==0.12.0
    target: docker
    settings: {{tensor_parallel_size: 8, max_model_len: 1M}}
  alone: {{engine: vllm==0.12.0, target: docker, settings: {{max_model_len: 1M}}}}
"""


def test_what_the_plan_rules_out_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CAMPAIGN)
    out = tmp_path / "out"
    result = CliRunner().invoke(
        cli,
        ["render", str(path), "--out", str(out), "--as", "shell", "--json"],
        standalone_mode=False,
    )
    assert result.return_value == 1
    told = json.loads(result.stdout)
    assert [Path(name).name for name in told["written"]] == ["serve-c-fits.sh"]
    assert "KV cache" in told["refused"]["alone"]
    assert [file.name for file in out.iterdir()] == ["serve-c-fits.sh"]


def test_an_unknown_deployment_names_the_known_ones() -> None:
    campaign = parse_campaign(CAMPAIGN, source="c.yaml")
    with pytest.raises(SpecError, match="alone, fits"):
        describe_services(campaign, ("nope",), try_infeasible=False)


def test_a_kind_that_does_not_suit_says_so() -> None:
    service = make_service()
    assert suitable_kinds(service) == KINDS
