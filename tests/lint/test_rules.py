"""Every rule: a text that it objects to, and one like it that is right."""

from __future__ import annotations

import pytest

from leadline.lint.check import lint_text, list_rules
from leadline.lint.fixing import fix_text

NEURON = "vllm serve m --tensor-parallel-size 64 --max-model-len {n} --max-num-seqs 1 {more}"
APC = "--enable-prefix-caching --block-size 32 --num-gpu-blocks-override 4096 "
KERNEL = '"attn_tkg_nki_kernel_enabled": true'


def neuron(more: str, n: int = 8192, **override: str) -> str:
    config = ", ".join(f'"{key}": {value}' for key, value in override.items())
    both = f"{more} --additional-config '{{\"override_neuron_config\": {{{config}}}}}'"
    return NEURON.format(n=n, more=both)


def docker(options: str, image: str = "vllm/vllm-openai:v0.12.0", words: str = "--model m") -> str:
    return f"docker run {options} {image} {words}"


def pod(container: str = "", pod: str = "", args: str = "-tp=2", extra: str = "") -> str:
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: m}}
spec:
  {extra or "replicas: 1"}
  template:
    spec:
      {pod or "priority: 0"}
      containers:
        - name: vllm
          image: vllm/vllm-openai:v0.12.0
          args: [--model=m, {args}]
          {container or "tty: false"}
"""


def ingress(seconds: int, size: str) -> str:
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: i
  annotations:
    nginx.ingress.kubernetes.io/proxy-read-timeout: "{seconds}"
    nginx.ingress.kubernetes.io/proxy-send-timeout: "{seconds}"
    nginx.ingress.kubernetes.io/proxy-body-size: {size}
"""


def route(timeouts: str) -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec:
  rules:
    - backendRefs: [{{name: m, port: 80}}]
      {timeouts or "name: all"}
"""


NEURON_IMAGE = "a.ecr/neuron/pytorch-inference-vllm-neuronx:0.13.0-neuronx-py312-sdk"
VLLM, SGLANG, PLUGIN = "vllm==0.12.0", "sglang==0.5.6.post2", "neuron==0.4.1"
SGL = "python -m sglang.launch_server --model-path m "
SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"
VOLUMES = "volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 8Gi}}]"
MOUNTED = "volumeMounts: [{name: shm, mountPath: /dev/shm}]"
LIMITED = 'resources: {limits: {memory: 64Gi, "nvidia.com/gpu": 2}}'
QUICK = "livenessProbe: {httpGet: {path: /health}, timeoutSeconds: 30}"

# code: (file name, engine, what is wrong, what is right)
CASES: dict[str, tuple[str, str, str, str]] = {
    "ARG001": ("a.sh", VLLM, "vllm serve m --max-modle-len 1", "vllm serve m --max-model-len 1"),
    "ARG002": ("a.sh", VLLM, "vllm serve m --device cuda", "vllm serve m"),
    "ARG003": ("a.sh", "vllm==0.6.0", "vllm serve m --runner auto", "vllm serve m"),
    "ARG004": ("a.sh", VLLM, "vllm serve m --task auto", "vllm serve m --runner auto"),
    "ARG005": ("a.sh", VLLM, "vllm serve m --context-length 9", "vllm serve m --max-model-len 9"),
    "ARG006": ("a.sh", VLLM, "vllm serve m --max-num-seqs many", "vllm serve m --max-num-seqs 4"),
    "ARG007": ("a.sh", VLLM, "vllm serve m --dtype bf16", "vllm serve m --dtype bfloat16"),
    "ARG008": ("a.sh", VLLM, "vllm serve m --port 1 --port 2", "vllm serve m --port 1"),
    "ARG009": ("a.sh", VLLM, "vllm serve m --max-model 9", "vllm serve m --max-model-len 9"),
    "ENV001": ("a.sh", VLLM, "VLLM_USE_V9=1 vllm serve m", "VLLM_LOGGING_LEVEL=INFO vllm serve m"),
    "SET001": (
        "a.sh", VLLM, "vllm serve m --max-model-len 2M",
        "vllm serve m --max-model-len 2M --no-enable-prefix-caching",
    ),
    "SET002": (
        "a.sh", VLLM, "vllm serve m --max-model-len 2M",
        "vllm serve m --max-model-len 2M --max-num-seqs 8",
    ),
    "SET003": (
        "a.sh", SGLANG, SGL + "--context-length 2097152",
        SGL + "--context-length 2097152 --max-running-requests 8",
    ),
    "SET004": (
        "a.sh", SGLANG, SGL + "--context-length 2097152 --disable-cuda-graph",
        SGL + "--context-length 8192 --disable-cuda-graph",
    ),
    "SET005": (
        "a.sh", VLLM, "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 vllm serve m",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN=0 vllm serve m",
    ),
    "SET006": (
        "a.sh", VLLM, "vllm serve m --max-model-len 1M --max-num-batched-tokens 1M",
        "vllm serve m --max-model-len 1M --max-num-batched-tokens 8192",
    ),
    "SET007": (
        "a.sh", VLLM, "vllm serve m --max-num-partial-prefills 2", "vllm serve m --max-num-seqs 2",
    ),
    "SET008": (
        "a.sh", VLLM, "vllm serve m --enable-auto-tool-choice",
        "vllm serve m --enable-auto-tool-choice --tool-call-parser hermes",
    ),
    "SET009": ("a.sh", SGLANG, SGL + "--allow-auto-truncate", SGL),
    "SET010": (
        "a.sh", VLLM, "vllm serve m --max-model-len 2M",
        "vllm serve m --max-model-len 2M --enable-prompt-tokens-details",
    ),
    "SET011": (
        "a.sh", VLLM, "vllm serve m --trust-remote-code",
        "vllm serve m --trust-remote-code --revision 0123abc",
    ),
    "SET012": ("a.sh", SGLANG, SGL, SGL + "--enable-metrics"),
    "SET013": ("a.sh", VLLM, f"vllm serve {SCOUT} -tp 3", f"vllm serve {SCOUT} -tp 8"),
    "SET014": ("a.sh", VLLM, "vllm serve org/m", "vllm serve org/m --revision 0123abc"),
    "SET015": (
        "a.sh", VLLM, "vllm serve Qwen/Qwen3-8B -tp 16", "vllm serve Qwen/Qwen3-8B -tp 8",
    ),
    "SET016": (
        "a.sh", VLLM, "vllm serve Qwen/Qwen3-8B -tp 16 -dcp 4",
        "vllm serve Qwen/Qwen3-8B -tp 16 -dcp 2",
    ),
    "SEC001": ("a.sh", VLLM, "vllm serve m --api-key abc", "VLLM_API_KEY=$KEY vllm serve m"),
    "SEC002": (
        "a.sh", VLLM, docker("-p 8000:8000"), docker("-p 127.0.0.1:8000:8000"),
    ),
    "SEC003": (
        "a.sh", VLLM, "VLLM_SERVER_DEV_MODE=1 vllm serve m",
        "VLLM_SERVER_DEV_MODE=1 vllm serve m --host 127.0.0.1",
    ),
    "ENG001": ("a.sh", "", "vllm serve m", "pip install vllm==0.12.0\nvllm serve m"),
    "ENG002": ("a.sh", "vllm==99.0", "vllm serve m", ""),
    "ENG003": ("a.sh", "", "echo hello", "vllm serve m"),
    "CTR001": (
        "a.sh", VLLM, docker("", "vllm/vllm-openai:latest"),
        docker("", "vllm/vllm-openai:v0.12.0@sha256:" + "0" * 64),
    ),
    "CTR002": (
        "a.sh", VLLM, docker("--gpus all", words="-tp 8"), docker("--ipc=host", words="-tp 8"),
    ),
    "CTR003": ("a.sh", VLLM, docker(""), docker("--gpus all")),
    "CTR004": (
        "a.sh", VLLM, docker("", words="-tp 8"), docker("--ulimit memlock=-1", words="-tp 8"),
    ),
    "CTR005": ("a.sh", VLLM, docker(""), docker("--init")),
    "CTR006": ("a.sh", VLLM, docker(""), docker("--log-opt max-size=9m")),
    "CTR007": ("a.sh", VLLM, docker(""), docker("--name x")),
    "CTR008": ("a.sh", VLLM, docker(""), docker("-v $HOME/hf:/root/.cache/huggingface")),
    "CTR009": ("a.sh", VLLM, docker(""), docker("-v cache:/root/.cache/vllm")),
    "CTR010": ("a.sh", VLLM, docker("", words="vllm serve m"), docker("", words="m")),
    "CTR011": ("a.sh", VLLM, docker("-d"), docker("-d --restart unless-stopped")),
    "CTR012": (
        "a.sh", VLLM, "python3 -m vllm.entrypoints.openai.api_server --model m", "vllm serve m",
    ),
    "KUB001": (
        "a.yaml", "", pod(QUICK),
        pod(QUICK + "\n          startupProbe: {failureThreshold: 180, periodSeconds: 10}"),
    ),
    "KUB002": ("a.yaml", "", pod("livenessProbe: {httpGet: {path: /v1/completions}}"), pod(QUICK)),
    "KUB003": ("a.yaml", "", pod("livenessProbe: {httpGet: {path: /health}}"), pod(QUICK)),
    "KUB004": (
        "a.yaml", "", pod(), pod("readinessProbe: {exec: {command: [curl, l:8000/v1/models]}}"),
    ),
    "KUB005": ("a.yaml", "", pod(), pod(MOUNTED, VOLUMES)),
    "KUB006": (
        "a.yaml", "", pod(MOUNTED, VOLUMES), pod(f"{MOUNTED}\n          {LIMITED}", VOLUMES),
    ),
    "KUB007": ("a.yaml", "", pod(), pod(LIMITED)),
    "KUB008": ("a.yaml", "", pod(), pod(extra="strategy: {type: Recreate}")),
    "KUB009": (
        "a.yaml", "", pod(),
        pod("lifecycle: {preStop: {sleep: {seconds: 9}}}", "terminationGracePeriodSeconds: 900"),
    ),
    "KUB010": (
        "a.yaml", "", pod(),
        pod(pod="tolerations: [{operator: Exists}]") + "---\nkind: PodDisruptionBudget\n",
    ),
    "KUB011": (
        "a.yaml", "", pod(),
        pod("securityContext: {runAsNonRoot: true, readOnlyRootFilesystem: true}"),
    ),
    "KUB012": ("a.yaml", "", pod(args="--nnodes=2"), pod()),
    "KUB014": (
        "a.yaml", "", pod(),
        pod() + "---\nkind: NetworkPolicy\n---\nkind: ServiceMonitor\n",
    ),
    "KUB013": ("a.yaml", "", ingress(60, "1m"), ingress(3600, "64m")),
    "KUB015": (
        "a.yaml", "", pod(args="--model=org/m"),
        pod(args="--model=org/m", pod="initContainers: [{name: d, image: i}]"),
    ),
    "KUB016": (
        "a.yaml", "", pod(args="--nnodes=2"),
        pod("env: [{name: NCCL_SOCKET_IFNAME, value: eth0}]", args="--nnodes=2"),
    ),
    "KUB017": ("a.yaml", "", pod(), pod() + "---\nkind: Service\n"),
    "KUB018": ("a.yaml", "", route(""), route("timeouts: {request: 2h}")),
    "NEU001": (
        "a.sh", PLUGIN,
        "vllm serve m --additional-config '{\"override-neuron-config\": {}}'",
        "vllm serve m --additional-config '{\"override_neuron_config\": {}}'",
    ),
    "NEU002": (
        "a.sh", PLUGIN, neuron("", kv_cache_tiling="false"),
        neuron("", disable_kv_cache_tiling="true"),
    ),
    "NEU004": ("a.sh", PLUGIN, neuron("--enable-prefix-caching"), neuron(APC)),
    "NEU005": (
        "a.sh", PLUGIN, neuron("--no-enable-prefix-caching", pa_num_blocks="2048"),
        neuron("--num-gpu-blocks-override 2048", pa_num_blocks="2048"),
    ),
    "NEU006": (
        "a.sh", PLUGIN,
        neuron("--enable-prefix-caching --block-size 32 --num-gpu-blocks-override 255"),
        neuron("--enable-prefix-caching --block-size 32 --num-gpu-blocks-override 256"),
    ),
    "NEU007": (
        "a.sh", PLUGIN,
        neuron("--no-enable-prefix-caching", attn_tkg_nki_kernel_enabled="true"),
        neuron(
            "--no-enable-prefix-caching", attn_tkg_nki_kernel_enabled="true",
            token_generation_buckets="[256, 8192]",
        ),
    ),
    "NEU008": (
        "a.sh", PLUGIN,
        neuron("--no-enable-prefix-caching", 131072, attn_tkg_nki_kernel_enabled="true"),
        neuron("--no-enable-prefix-caching", 114688, attn_tkg_nki_kernel_enabled="true"),
    ),
    "NEU009": (
        "a.sh", PLUGIN, neuron(APC, context_encoding_buckets="[512]"),
        neuron(APC, context_encoding_buckets="[512]", prefix_buckets="[512]"),
    ),
    "NEU010": (
        "a.sh", PLUGIN, neuron(APC, k_cache_transposed="true"),
        neuron("--no-enable-prefix-caching", k_cache_transposed="true"),
    ),
    "NEU011": (
        "a.sh", PLUGIN, "vllm serve m --max-model-len 8192",
        "vllm serve m --max-model-len 8192 --max-num-seqs 1",
    ),
    "NEU012": ("a.sh", "neuron==0.5.0", neuron(APC, 131072), neuron(APC, 65536)),
    "NEU013": (
        "a.sh", "",
        docker("", NEURON_IMAGE + "2.27.0", "vllm serve m"),
        docker("", NEURON_IMAGE + "2.28.0", "vllm serve m"),
    ),
    "NEU014": (
        "a.sh", "", "pip install vllm-neuron\nvllm serve m",
        "pip install --extra-index-url $NEURON vllm-neuron\nvllm serve m",
    ),
    "NEU101": ("a.sh", PLUGIN, neuron(""), neuron("--no-enable-prefix-caching")),
    "NEU102": ("a.sh", PLUGIN, neuron("--max-num-batched-tokens 8192"), neuron("")),
    "NEU103": ("a.sh", PLUGIN, "export NEURON_COMPILED_ARTIFACTS=/a\n" + neuron(""), ""),
    "NEU104": (
        "a.sh", PLUGIN,
        neuron("--no-enable-prefix-caching", context_encoding_buckets="[640, 8192]"),
        neuron("--no-enable-prefix-caching", context_encoding_buckets="[512, 8192]"),
    ),
    "NEU105": (
        "a.sh", PLUGIN, neuron(APC),
        neuron(APC, context_encoding_buckets="[512, 8192]", prefix_buckets="[512]"),
    ),
    "NEU106": (
        "a.sh", PLUGIN, neuron("", kv_cache_quant="true"), neuron("", kv_quant_config="{}"),
    ),
    "NEU107": ("a.sh", PLUGIN, neuron(APC, pa_block_size="64"), neuron(APC, pa_block_size="32")),
    "NEU108": (
        "a.sh", PLUGIN, neuron("--no-enable-prefix-caching --block-size 32"), neuron(APC),
    ),
    "NEU201": (
        "a.sh", "neuron==0.24.0.1.1.0",
        "vllm serve m --max-model-len 131072 --max-num-batched-tokens 16384",
        "vllm serve m --max-model-len 131072 --max-num-batched-tokens 8192",
    ),
}  # fmt: skip

PLANNED = {"PLN001", "PLN002", "PLN003", "PLN004", "PLN005", "TIM001"}


def codes(name: str, text: str, engine: str) -> set[str]:
    return {each.code for each in lint_text(name, text, (engine,) if engine else ())}


@pytest.mark.parametrize("code", CASES)
def test_a_rule_objects_to_what_is_wrong_and_not_to_what_is_right(code: str) -> None:
    name, engine, wrong, right = CASES[code]
    assert code in codes(name, wrong, engine)
    if right:
        assert code not in codes(name, right, engine)


def test_no_rule_is_untested_and_each_says_what_and_why() -> None:
    rules = list_rules()
    assert {each.code for each in rules} == set(CASES) | PLANNED
    assert len({each.code for each in rules}) == len(rules)
    assert all(each.title and each.source for each in rules)


def test_plans_are_asked_where_model_and_hardware_are_known() -> None:
    text = (
        f"curl --max-time 60 localhost\npython -m sglang.launch_server --model-path {SCOUT} "
        "--tp-size 8 --context-length 2097152 --max-running-requests 8 --mem-fraction-static 0.8"
    )
    found = {f.code for f in lint_text("a.sh", text, (SGLANG,), hardware="8xH200")}
    assert found >= {"PLN003", "PLN005", "TIM001"}
    assert not {f.code for f in lint_text("a.sh", text, (SGLANG,))} & PLANNED


def test_a_plan_that_fails_is_a_finding_at_its_flag() -> None:
    text = f"vllm serve {SCOUT} \\\n -tp 8 \\\n --max-model-len 10M --no-enable-prefix-caching"
    found = lint_text("a.sh", text, (VLLM,), hardware="8xH100")
    assert [f.severity for f in found if f.code == "PLN001"]
    watchdog = (
        f"python -m sglang.launch_server --model-path {SCOUT} --tp-size 8 "
        "--context-length 8000000 --max-running-requests 2 --watchdog-timeout 300"
    )
    assert "PLN002" in {f.code for f in lint_text("a.sh", watchdog, (SGLANG,), hardware="8xH200")}


def test_a_campaign_is_planned_with_its_own_hardware() -> None:
    text = (
        f"name: c\nmodel: {SCOUT}\nhardware: 8xH200\ndeployments:\n  one:\n"
        "    engine: vllm==0.12.0\n    settings: {tensor_parallel_size: 8, max_model_len: 2M}\n"
    )
    assert "PLN005" in {f.code for f in lint_text("c.yaml", text)}


def test_a_setting_that_is_computed_is_not_planned_with() -> None:
    text = f"from vllm import LLM\nLLM('{SCOUT}', tensor_parallel_size=8, middleware=[f()])\n"
    assert not {f.code for f in lint_text("a.py", text, (VLLM,), hardware="8xH200")} & PLANNED


def test_grace_shorter_than_the_planned_prefill() -> None:
    args = f"-tp=8, --max-model-len=2097152, --model={SCOUT}"
    text = pod(pod="terminationGracePeriodSeconds: 61", args=args)
    found = {f.code for f in lint_text("a.yaml", text, (), hardware="8xH200")}
    assert "PLN004" in found


@pytest.mark.parametrize("code", CASES)
def test_a_fix_mends_what_it_says_it_does_and_breaks_nothing(code: str) -> None:
    name, engine, text, _ = CASES[code]
    engines = (engine,) if engine else ()
    before = lint_text(name, text, engines)
    after = lint_text(name, fix_text(text, before), engines)
    assert not [each for each in after if each.is_fixable]
    errors = {each.what for each in before if each.severity == "error"}
    assert {each.what for each in after if each.severity == "error"} <= errors
