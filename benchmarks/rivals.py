# ruff: noqa: INP001 - a script, not a package
"""Other load generators against the same server of known truth, read from their own result files.

For ``client.py --rivals``. Each has a folder of its own outside of the repository, filled once;
what was begun and not finished is made anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Scenario(NamedTuple):
    """What everybody is measured on; tokens come in lockstep, as an engine's steps bring them."""

    name: str
    users: int
    tokens: int
    itl_ms: float
    rounds: int
    """Requests of each user."""
    ttft_ms: float = 200
    mode: str = "lockstep"
    stall_ms: float = 0
    stall_every: int = 0
    """The server stalls before each token whose number is a multiple of this."""
    input_tokens: int = 64

    def __str__(self) -> str:
        pace = f"one each {self.itl_ms:g} ms" if self.itl_ms else "as fast as they are taken"
        stalls = f", {self.stall_ms:g} ms more at every {self.stall_every}th"
        tokens = f"{self.tokens} tokens, {pace}{stalls if self.stall_every else ''}"
        return f"{self.name}: {self.users} users, {self.requests} requests, {tokens}"

    @property
    def requests(self) -> int:
        return self.users * self.rounds

    @property
    def server_options(self) -> list[str]:
        if not self.stall_every:
            return []
        return [f"--stall-ms={self.stall_ms}", f"--stall-every={self.stall_every}"]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("lockstep", users=256, tokens=200, itl_ms=10, rounds=2),
        Scenario("80K", users=256, tokens=500, itl_ms=3.2, rounds=1),
        Scenario("stalls", 4, tokens=100, itl_ms=10, rounds=3, stall_ms=200, stall_every=25),
        Scenario("flood", users=64, tokens=1000, itl_ms=0, rounds=4, ttft_ms=0, mode="flood"),
    )
}


class Scene(NamedTuple):
    """What a rival is told."""

    home: Path
    url: str
    tokenizer: Path
    results: Path
    scenario: Scenario


class Reported(NamedTuple):
    """In milliseconds, from the rival's own result file."""

    ttft_ms: tuple[float, float]
    """p50 and p99, as are the others."""
    itl_ms: tuple[float, float]
    e2e_ms: tuple[float, float]
    tokens_per_s: float | None = None
    """Where it is not as fast as the server could send, since its parsing comes later."""


@dataclass(frozen=True)
class Rival:
    name: str
    size: str
    install: Callable[[Path], None]
    """Into that folder."""
    argv: Callable[[Scene], Sequence[str | Path]]
    read: Callable[[Path], Reported]
    """From the folder of its results."""
    itl: str = "gap by gap"
    """What its ITL is."""


# --- the rivals -----------------------------------------------------------------------------


def _pip(home: Path, *packages: str) -> None:
    if not (home / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", *packages]
    subprocess.run([*pip, "--disable-pip-version-check"], check=True)


def _inference_perf(home: Path) -> None:
    """It asks for Python 3.12; what it uses of it is not in the way of 3.11."""
    _pip(home, "--no-deps", "--ignore-requires-python", "inference-perf==0.7.0")
    asked = "from importlib.metadata import requires; print(*requires('inference-perf'), sep='\\n')"
    found = subprocess.run(
        [home / "bin" / "python", "-c", asked], stdout=subprocess.PIPE, text=True, check=True
    )
    _pip(home, *(line for line in found.stdout.splitlines() if "extra ==" not in line))


def _unpack_sglang(home: Path) -> None:
    """Its Rust client is one library inside of the wheel and needs nothing else of it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", home]
    subprocess.run([*pip, "sglang==0.5.23"], check=True)
    with zipfile.ZipFile(next(home.glob("sglang*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if "_bench.cpython" in name)
        (home / "_bench.so").write_bytes(wheel.read(name))


def _leadline(scene: Scene) -> Sequence[str | Path]:
    numbers = (str(scene.scenario.users), str(scene.scenario.requests))
    script = Path(__file__).with_name("racer.py")
    return [sys.executable, script, scene.url, *numbers, scene.results]


def _read_leadline(results: Path) -> Reported:
    found = json.loads((results / "result.json").read_text())
    reported = in_ms(found["ttfts"], list(chain(*found["itls"])), found["e2es"])
    return reported._replace(tokens_per_s=found["events_per_s"])


def _needs_path(home: Path) -> None:
    raise SystemExit(
        f"{home.name}: install it with `leadline engines install`, or name the folder of an "
        f"environment that has it: --home {home.name}=PATH"
    )


def _vllm(scene: Scene) -> Sequence[str | Path]:
    return [
        *(scene.home / "bin" / "vllm", "bench", "serve", "--backend", "openai"),
        *("--base-url", scene.url, "--model", "truth", "--tokenizer", scene.tokenizer),
        *("--dataset-name", "random", "--random-input-len", str(scene.scenario.input_tokens)),
        *("--random-output-len", str(scene.scenario.tokens)),
        *("--num-prompts", str(scene.scenario.requests)),
        *("--max-concurrency", str(scene.scenario.users), "--ignore-eos"),
        *("--ready-check-timeout-sec", "0", "--save-result", "--save-detailed"),
        *("--result-dir", scene.results, "--result-filename", "result.json"),
    ]


def _read_vllm(results: Path) -> Reported:
    return _from_lists(json.loads((results / "result.json").read_text()))


_RUN_RUST = """
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
loader = ExtensionFileLoader("_bench", sys.argv[1])
spec = spec_from_file_location("_bench", sys.argv[1], loader=loader)
module = module_from_spec(spec)
loader.exec_module(module)
module.run_argv(["sglang-bench", *sys.argv[2:]])
"""


def _sglang_rust(scene: Scene) -> Sequence[str | Path]:
    begin = (sys.executable, "-c", _RUN_RUST, scene.home / "_bench.so")
    return [*begin, *_sglang_options(scene), "--ready-check-timeout-sec", "0"]


def _sglang_python(scene: Scene) -> Sequence[str | Path]:
    begin = (scene.home / "bin" / "python", "-m", "sglang.bench_serving")
    return [*begin, *_sglang_options(scene), "--disable-tqdm"]


def _sglang_options(scene: Scene) -> list[str | Path]:
    return [
        *("--backend", "sglang-oai", "--base-url", scene.url, "--model", "truth"),
        *("--tokenizer", scene.tokenizer, "--dataset-name", "random-ids"),
        *(
            "--random-input-len",
            str(scene.scenario.input_tokens),
            "--random-output-len",
            str(scene.scenario.tokens),
        ),
        *("--random-range-ratio", "1", "--num-prompts", str(scene.scenario.requests)),
        *("--max-concurrency", str(scene.scenario.users), "--warmup-requests", "0"),
        *("--output-details", "--output-file", scene.results / "result.jsonl"),
    ]


def _read_sglang(results: Path) -> Reported:
    return _from_lists(json.loads((results / "result.jsonl").read_text().splitlines()[-1]))


def _from_lists(found: dict[str, Any]) -> Reported:
    """Of each request its TTFT and the list of its gaps, in seconds."""
    pairs = zip(found["ttfts"], found["itls"], strict=True)
    e2e_s = [ttft + sum(gaps) for ttft, gaps in pairs]
    return in_ms(found["ttfts"], list(chain(*found["itls"])), e2e_s)


_COMPLETIONS = "request_format=/v1/completions"


def _guidellm(scene: Scene) -> Sequence[str | Path]:
    it = scene.scenario
    return [
        *(scene.home / "bin" / "guidellm", "run"),
        *("--backend", f"kind=openai_http,target={scene.url},model=truth,{_COMPLETIONS}"),
        *("--profile", f"kind=concurrent,streams={it.users}"),
        *("--constraint", f"kind=max_requests,count={it.requests}"),
        *("--tokenizer", f"kind=huggingface_auto,model={scene.tokenizer}"),
        *(
            "--data",
            f"kind=synthetic_text,prompt_tokens={it.input_tokens},output_tokens={it.tokens}",
        ),
        *("--output", f"kind=json,path={scene.results / 'result.json'}", "--disable-console"),
    ]


def _read_guidellm(results: Path) -> Reported:
    metrics = json.loads((results / "result.json").read_text())["benchmarks"][0]["metrics"]

    def of(name: str, factor: float = 1) -> tuple[float, float]:
        found = metrics[name]["successful"]
        if not found["count"]:
            raise ValueError(f"it reports no {name}")
        return found["percentiles"]["p50"] * factor, found["percentiles"]["p99"] * factor

    return Reported(
        of("time_to_first_token_ms"), of("inter_token_latency_ms"), of("request_latency", 1e3)
    )


def _aiperf(scene: Scene) -> Sequence[str | Path]:
    return [
        *(scene.home / "bin" / "aiperf", "profile", "--model", "truth", "--url", scene.url),
        *("--endpoint-type", "completions", "--streaming", "--tokenizer", scene.tokenizer),
        *("--isl", str(scene.scenario.input_tokens), "--osl", str(scene.scenario.tokens)),
        *("--concurrency", str(scene.scenario.users)),
        *("--request-count", str(scene.scenario.requests)),
        *("--artifact-dir", scene.results, "--ui", "none"),
    ]


def _read_aiperf(results: Path) -> Reported:
    found = json.loads((results / "profile_export_aiperf.json").read_text())
    names = ("time_to_first_token", "inter_token_latency", "request_latency")
    return Reported(*((found[name]["p50"], found[name]["p99"]) for name in names))


def _inference_perf_run(scene: Scene) -> Sequence[str | Path]:
    it = scene.scenario
    fixed = {"std_dev": 0, "total_count": it.requests, "type": "fixed"}
    asked, given = ({"min": n, "max": n, "mean": n, **fixed} for n in (it.input_tokens, it.tokens))
    load = {
        "type": "concurrent",
        "stages": [{"num_requests": it.requests, "concurrency_level": it.users}],
        "num_workers": 1,
        "worker_max_concurrency": it.users,
    }
    config = {
        "api": {"type": "completion", "streaming": True},
        "data": {"type": "random", "input_distribution": asked, "output_distribution": given},
        "load": load,
        "server": {"type": "vllm", "model_name": "truth", "base_url": scene.url,
                   "ignore_eos": True},
        "tokenizer": {"pretrained_model_name_or_path": str(scene.tokenizer)},
        "report": {"request_lifecycle": {"summary": True, "per_stage": False,
                                         "per_adapter": False, "percentiles": [50, 99]}},
        "storage": {"local_storage": {"path": str(scene.results / "reports")}},
    }  # fmt: skip
    file = scene.results / "config.yml"  # YAML holds JSON
    file.write_text(json.dumps(config))
    return [scene.home / "bin" / "inference-perf", "-c", file]


def _read_inference_perf(results: Path) -> Reported:
    file = results / "reports" / "summary_lifecycle_metrics.json"
    latency = json.loads(file.read_text())["successes"]["latency"]
    names = ("time_to_first_token", "inter_token_latency", "request_latency")
    pairs = [(latency[name]["median"] * 1e3, latency[name]["p99"] * 1e3) for name in names]
    return Reported(*pairs)


def in_ms(ttft_s: Sequence[float], itl_s: Sequence[float], e2e_s: Sequence[float]) -> Reported:
    return Reported(*(p50_p99(np.array(values) * 1e3) for values in (ttft_s, itl_s, e2e_s)))


def p50_p99(values: Any) -> tuple[float, float]:
    return float(np.percentile(values, 50)), float(np.percentile(values, 99))


_BY_REQUEST = "mean of each request"
RIVALS = {
    rival.name: rival
    for rival in (
        Rival("leadline", "", _needs_path, _leadline, _read_leadline),
        Rival("vllm", "several GB", _needs_path, _vllm, _read_vllm),
        Rival("sglang-python", "several GB", _needs_path, _sglang_python, _read_sglang),
        Rival("sglang-rust", "40 MB", _unpack_sglang, _sglang_rust, _read_sglang),
        Rival(
            "guidellm",
            "1.5 GB, 6 GB with CUDA",
            lambda home: _pip(home, "guidellm==0.8.1"),
            _guidellm,
            _read_guidellm,
            itl=_BY_REQUEST,
        ),
        Rival(
            "aiperf",
            "1.2 GB",
            lambda home: _pip(home, "aiperf==0.13.0"),
            _aiperf,
            _read_aiperf,
            itl=_BY_REQUEST,
        ),
        Rival(
            "inference-perf", "0.8 GB", _inference_perf, _inference_perf_run, _read_inference_perf
        ),
    )
}
OTHERS = [name for name in RIVALS if name != "leadline"]
