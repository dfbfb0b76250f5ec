"""The one page of ``leadline status``: what is not known is not shown as zero."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from leadline.report.status_page import ServiceRow, status_page
from leadline.units import GIB


def page(devices: list[dict[str, Any]], **changes: Any) -> str:
    row = ServiceRow(
        name="scout-vllm",
        state="running",
        phase="ready",
        url="http://127.0.0.1:8000",
        engine="vllm",
        restarts=0,
        gauges={"running": 2.0, "waiting": 1.0, "kv_usage": 0.314},
        rates={"prompt_tokens": 45210.0},
        rates_over_s=14.2,
        cached_share=0.25,
        warnings=(),
    )
    console = Console(width=200)
    with console.capture() as captured:
        console.print(status_page([row._replace(**changes)], devices))
    return captured.get()


def test_a_ready_service_shows_its_load() -> None:
    shown = page([])
    assert "scout-vllm  running  ready  http://127.0.0.1:8000  vllm" in shown
    assert "running 2, waiting 1, KV cache used 31%, prompt tokens from cache 25%" in shown
    assert "prompt tok/s 45,200, output tok/s – over 14 s" in shown


def test_a_starting_service_shows_its_phase_alone() -> None:
    shown = page([], phase="loading the weights", restarts=3)
    assert "running, restarted 3x  loading the weights" in shown
    assert "KV cache" not in shown


def test_devices_come_before_the_machine_and_warnings_are_quoted() -> None:
    gpu = {"memory_used_bytes": 100 * GIB, "memory_total_bytes": 141 * GIB, "power_w": 512.3}
    devices = [
        {"source": "machine", "device": "", "facts": {"memory_used_bytes": GIB}},
        {"source": "nvml", "device": "0", "facts": {"name": "H200", "throttle": ["heat"], **gpu}},
    ]
    shown = page(devices, warnings=("WARNING: slow [link]",))
    assert "! WARNING: slow [link]" in shown
    assert "nvml 0, H200, memory 100 GiB of 141 GiB, 512 W, throttled by heat\nmachine" in shown
