"""Record what the real SGLang says: ``python -m tests.real_engines.record_sglang``.

Writes ``tests/data/recorded/sglang-0.5.6.post2``: the log of a start, of failing starts and of
killed processes, server info, metrics, and streams of both its routes byte for byte. Paths of the
machine are replaced. A window larger than the KV pool is no failure of its start: ``start.log`` and
the streams beyond the pool are of such a server.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from tests.real_engines.sglang_environment import CPU_ENV, CPU_SETTINGS, VERSION, sglang_python
from tests.real_engines.tiny_llama import write_tiny_llama

from leadline.deploy.process import ProcessTarget, free_port
from leadline.deploy.target import StartError, deployed
from leadline.engines.engine import LaunchRequest, load_engine
from leadline.launch import Endpoint, Launch

DATA = Path(__file__).parents[1] / "data" / "recorded" / f"sglang-{VERSION}"
START_S = 400
WINDOW, POOL = 8192, 4096
# Noise of the CPU environment, of no use to a test.
_NOISE = re.compile(r"Warning: |warnings\.warn|Ignore import error|^\s*$|return |~~|\^\^")
_KEPT_INFO = (
    "model_path", "served_model_name", "context_length", "max_total_tokens", "mem_fraction_static",
    "max_running_requests", "chunked_prefill_size", "max_prefill_tokens", "page_size", "device",
    "attention_backend", "disable_radix_cache", "enable_metrics", "enable_cache_report",
    "kv_cache_dtype", "dtype", "tp_size", "status", "max_total_num_tokens", "max_req_input_len",
    "version",
)  # fmt: skip
_FAILURES: Mapping[str, Mapping[str, Any]] = {
    "bad-flag": {"max_totl_tokens": 5},
    "beyond-training": {"context_length": 262144},
    "pool-too-small": {"max_total_tokens": 5},
    "not-enough-memory": {"mem_fraction_static": 0.0001},
}
# Name to the title of the process that is killed; empty: the server itself.
_KILLED: Mapping[str, str] = {"killed": "", "scheduler-killed": "sglang::scheduler"}
_LAST_WORDS_S = 10


def main() -> None:
    python = sglang_python()
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_llama(Path(folder) / "tiny")
        scrub = _Scrubber({str(python.parents[1]): "/opt/sglang", folder: "/models"})
        asyncio.run(_record_served(python, model, Path(folder) / "log", scrub))
        for name, settings in _FAILURES.items():
            asyncio.run(_record_failure(name, _launch(python, model, **settings), folder, scrub))
        absent = _launch(python, Path(folder) / "absent")
        asyncio.run(_record_failure("missing-model", absent, folder, scrub))
        asyncio.run(_record_port_in_use(_launch(python, model), folder, scrub))
        for name, title in _KILLED.items():
            asyncio.run(_record_killed(name, title, _launch(python, model), folder, scrub))


class _Scrubber:
    """Removes what only this machine has."""

    def __init__(self, replaced: Mapping[str, str]) -> None:
        self._replaced = replaced

    def __call__(self, text: str) -> str:
        for path, name in self._replaced.items():
            text = text.replace(path, name)
        return text

    def log(self, path: Path) -> str:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        usage = [n for n, line in enumerate(lines) if line.startswith("launch_server.py: error")]
        return self("".join(line for line in lines[min(usage, default=0) :] if not _is_noise(line)))


def _is_noise(line: str) -> bool:
    return bool(_NOISE.search(line)) and "User-specified" not in line


def _launch(python: Path, model: Path, **settings: Any) -> Launch:
    start = load_engine("sglang").launch
    assert start
    merged = {**CPU_SETTINGS, "context_length": WINDOW, "max_total_tokens": POOL, **settings}
    return start(LaunchRequest(str(model), free_port(), merged, CPU_ENV, str(python)))


async def _record_served(python: Path, model: Path, log: Path, scrub: _Scrubber) -> None:
    async with deployed(
        ProcessTarget(), _launch(python, model, max_running_requests=4), log, START_S, _say
    ) as endpoint:
        await asyncio.to_thread(_ask_everything, endpoint, scrub)
    lines = scrub.log(log).splitlines(keepends=True)
    ready = next(n for n, line in enumerate(lines) if "ready to roll" in line)
    (DATA / "start.log").write_text("".join(lines[: ready + 1]), encoding="utf-8")


def _ask_everything(endpoint: Endpoint, scrub: _Scrubber) -> None:
    info = json.loads(_get(endpoint, "/server_info"))
    kept = {name: info[name] for name in _KEPT_INFO if name in info}
    _save("server_info.json", scrub(json.dumps(kept, indent=1)).encode())
    prompt = [100 + n % 1300 for n in range(600)]
    _save("stream.sse", _stream(endpoint, prompt[:4], 8))
    _save("metrics-before.txt", _metrics(endpoint))
    _save("stream-cold.sse", _stream(endpoint, prompt[4:], 8))
    _save("metrics-cold.txt", _metrics(endpoint))
    _save("stream-warm.sse", _stream(endpoint, prompt[4:], 8))
    _save("metrics-warm.txt", _metrics(endpoint))
    _save("models.json", _get(endpoint, "/v1/models"))
    _save("stream-without-usage.sse", _stream(endpoint, prompt, 4, stream_options=None))
    _save("stream-over-window.sse", _stream(endpoint, prompt * 14, 8))
    _save("stream-over-sum.sse", _stream(endpoint, (prompt * 14)[: WINDOW - 4], 8))
    _save("stream-over-pool.sse", _stream(endpoint, prompt * 10, 8))
    _save("stream-cut-short.sse", _stream(endpoint, (prompt * 7)[: POOL - 10], 16))
    _save("generate.sse", _generate(endpoint, [90, 91, 92, 93], 8))
    _save("generate-cold.sse", _generate(endpoint, prompt[4:], 8))
    _save("generate-over-window.sse", _generate(endpoint, prompt * 14, 8))
    _save("generate-over-pool.sse", _generate(endpoint, prompt * 10, 8))
    _save("generate-cut-short.sse", _generate(endpoint, (prompt * 7)[: POOL - 10], 16))


def _generate(endpoint: Endpoint, prompt: list[int], output_tokens: int) -> bytes:
    """Its own route, as Leadline itself asks there."""
    sampling = {"max_new_tokens": output_tokens, "temperature": 0, "ignore_eos": True}
    body = {"input_ids": prompt, "sampling_params": sampling, "stream": True}
    return _post(f"{endpoint.url}/generate", body)


def _stream(endpoint: Endpoint, prompt: list[int], output_tokens: int, **more: Any) -> bytes:
    body = {
        "model": endpoint.model,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        **more,
    }
    kept = {name: value for name, value in body.items() if value is not None}
    return _post(f"{endpoint.url}/v1/completions", kept)


def _post(url: str, body: Mapping[str, Any]) -> bytes:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        return bytes(answer.read())


def _metrics(endpoint: Endpoint) -> bytes:
    """Without the buckets of histograms, which are most of it."""
    lines = _get(endpoint, "/metrics").splitlines(keepends=True)
    return b"".join(line for line in lines if b"_bucket{" not in line)


def _get(endpoint: Endpoint, path: str) -> bytes:
    with urllib.request.urlopen(endpoint.url + path, timeout=60) as answer:
        return bytes(answer.read())


async def _record_failure(name: str, launch: Launch, folder: str, scrub: _Scrubber) -> None:
    log = Path(folder) / f"{name}.log"
    target = ProcessTarget()
    try:
        await target.start(launch, log, START_S, _say)
        raise AssertionError(f"{name}: it started")
    except StartError as error:
        status = f"{error.cause}: {error.exit_status}\n"
    finally:
        await target.stop()
    text = "".join(scrub.log(log).splitlines(keepends=True)[-25:])
    (DATA / f"{name}.log").write_text(status + text, encoding="utf-8")


async def _record_port_in_use(launch: Launch, folder: str, scrub: _Scrubber) -> None:
    """Taken after our own check, while the engine loads; SGLang says so, and lives on."""
    log = Path(folder) / "port-in-use.log"
    target = ProcessTarget()
    starting = asyncio.create_task(target.start(launch, log, START_S, _say))
    try:
        with socket.socket() as holder:
            await asyncio.sleep(1)
            holder.bind((launch.host, launch.port))
            holder.listen()
            while "address already in use" not in "".join(target.log_tail()):  # noqa: ASYNC110
                await asyncio.sleep(1)
            starting.cancel()
    finally:
        await target.stop()
    text = "".join(scrub.log(log).splitlines(keepends=True)[-25:])
    (DATA / "port-in-use.log").write_text(f"timeout: None\n{text}", encoding="utf-8")


async def _record_killed(
    name: str, title: str, launch: Launch, folder: str, scrub: _Scrubber
) -> None:
    log = Path(folder) / f"{name}.log"
    target = ProcessTarget()
    async with deployed(target, launch, log, START_S, _say):
        server = psutil.Process(target.pid)
        family = [server, *server.children(recursive=True)]
        victim = next(p for p in family if " ".join(p.cmdline()).startswith(title))
        victim.kill()
        await asyncio.sleep(_LAST_WORDS_S)
        status = f"exited: {target.exit_status()}\n"
    text = "".join(scrub.log(log).splitlines(keepends=True)[-25:])
    status = re.sub(r"pid \d+", "pid 1", status)
    (DATA / f"{name}.log").write_text(status + text, encoding="utf-8")


def _save(name: str, content: bytes) -> None:
    (DATA / name).write_bytes(content)


def _say(phase: str) -> None:
    sys.stderr.write(f"{phase}\n")


if __name__ == "__main__":
    main()
