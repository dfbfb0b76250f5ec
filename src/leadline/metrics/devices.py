"""What accelerators, the machine and the server's own processes say of themselves.

A device that is absent is no error: it has no lines.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from leadline.metrics.lines import Line, telemetry_line

Source = Callable[[], Iterator[Line]]
_NEURON_MONITOR = "/opt/aws/neuron/bin/neuron-monitor"


def open_devices(pid: int | None, interval_s: float) -> Callable[[], Iterator[Line]]:
    """Everything that this machine has; ``pid`` is a server that we started."""
    sources: list[Source] = [measure_machine]
    if pid is not None:
        sources.append(lambda: measure_process(pid))
    if nvml := open_nvml():
        sources.append(nvml)
    if neuron := open_neuron(interval_s):
        sources.append(neuron)

    def measure() -> Iterator[Line]:
        for source in sources:
            yield from source()

    return measure


def measure_machine() -> Iterator[Line]:
    """The whole machine: a neighbour's work shows here."""
    memory = psutil.virtual_memory()
    times = psutil.cpu_times()
    facts = {
        "cpu_count": os.cpu_count(),
        "cpu_busy_s": times.user + times.system + getattr(times, "nice", 0.0),
        "memory_used_bytes": memory.total - memory.available,
        "memory_total_bytes": memory.total,
    }
    yield telemetry_line("machine", "", facts)


def measure_process(pid: int) -> Iterator[Line]:
    """A process and all its descendants, as one; nothing once it is gone."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        family = [found for found in map(_process, [root, *root.children(recursive=True)]) if found]
        if family:
            facts = {name: sum(each[name] for each in family) for name in family[0]}
            yield telemetry_line("process", str(pid), {"processes": len(family), **facts})


def _process(process: psutil.Process) -> dict[str, float] | None:
    try:
        with process.oneshot():
            cpu = process.cpu_times()
            # Of children that have ended and were waited for, too: the sum never goes back.
            return {
                "cpu_s": sum(cpu[:4]),
                "rss_bytes": process.memory_info().rss,
                "threads": process.num_threads(),
            }
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def open_nvml() -> Source | None:
    """NVIDIA's devices through NVML; ``None`` without its driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return None
    return lambda: _measure_nvml(pynvml, count)


def _measure_nvml(nvml: Any, count: int) -> Iterator[Line]:
    """Every figure on its own: a device that does not support one still gives the others."""

    def ask(question: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return question(*arguments)
        except nvml.NVMLError:
            return None

    for index in range(count):
        device = ask(nvml.nvmlDeviceGetHandleByIndex, index)
        if device is None:
            continue
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, device)
        busy = ask(nvml.nvmlDeviceGetUtilizationRates, device)
        power_mw = ask(nvml.nvmlDeviceGetPowerUsage, device)
        reasons = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, device)
        facts = {
            "name": ask(nvml.nvmlDeviceGetName, device),
            "memory_used_bytes": memory and memory.used,
            "memory_total_bytes": memory and memory.total,
            "busy_percent": busy and busy.gpu,
            "memory_busy_percent": busy and busy.memory,
            "power_w": None if power_mw is None else power_mw / 1000,
            "temperature_c": ask(nvml.nvmlDeviceGetTemperature, device, nvml.NVML_TEMPERATURE_GPU),
            "sm_clock_mhz": ask(nvml.nvmlDeviceGetClockInfo, device, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": ask(nvml.nvmlDeviceGetClockInfo, device, nvml.NVML_CLOCK_MEM),
            "throttle": None if reasons is None else name_throttles(nvml, reasons),
        }
        yield telemetry_line("nvml", str(index), facts)


# What slows a device down; idle and chosen clocks do not.
_THROTTLES = {
    "power cap": "nvmlClocksThrottleReasonSwPowerCap",
    "hardware slowdown": "nvmlClocksThrottleReasonHwSlowdown",
    "heat (software)": "nvmlClocksThrottleReasonSwThermalSlowdown",
    "heat (hardware)": "nvmlClocksThrottleReasonHwThermalSlowdown",
    "power brake": "nvmlClocksThrottleReasonHwPowerBrakeSlowdown",
}


def name_throttles(nvml: Any, reasons: int) -> list[str]:
    return [name for name, constant in _THROTTLES.items() if reasons & getattr(nvml, constant)]


def open_neuron(interval_s: float) -> Source | None:
    """AWS Neuron's devices through ``neuron-monitor``; ``None`` where it is not installed."""
    program = shutil.which("neuron-monitor") or shutil.which(_NEURON_MONITOR)
    return NeuronMonitor(program, interval_s).take if program else None


class NeuronMonitor:
    """One ``neuron-monitor`` of ours; it ends with this process."""

    def __init__(self, program: str, interval_s: float) -> None:
        self._lines: list[Line] = []
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
            json.dump(_neuron_configuration(interval_s), file)
        self._configuration = Path(file.name)
        self._process = subprocess.Popen(
            [program, "-c", file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(self.close)
        threading.Thread(target=self._read, daemon=True).start()

    def take(self) -> Iterator[Line]:
        """The lines that have come since the last time."""
        while self._lines:
            yield self._lines.pop(0)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._configuration.unlink(missing_ok=True)

    def _read(self) -> None:
        assert self._process.stdout  # noqa: S101
        for line in self._process.stdout:
            self._lines += read_neuron(line)


def _neuron_configuration(interval_s: float) -> dict[str, Any]:
    """The Neuron Monitor User Guide's form; only the groups that we read."""
    return {
        "period": f"{max(1, round(interval_s))}s",
        "neuron_runtimes": [
            {
                "tag_filter": ".*",
                "metrics": [{"type": "neuroncore_counters"}, {"type": "memory_used"}],
            }
        ],
        "system_metrics": [{"type": "neuron_hw_counters"}],
    }


def read_neuron(line: bytes) -> list[Line]:
    """One report of ``neuron-monitor``; nothing of what is none.

    Lines for the memory of each runtime, for each NeuronCore and for each device's ECC counts.
    """
    try:
        report = json.loads(line)
    except ValueError:
        return []
    found = []
    for runtime in _entries(report, "neuron_runtime_data"):
        found += list(_neuron_runtime(runtime))
    hardware = _part(_part(report, "system_data"), "neuron_hw_counters")
    for device in _entries(hardware, "neuron_devices"):
        facts = {name: count for name, count in device.items() if "_ecc_" in name}
        found.append(telemetry_line("neuron", f"device {device.get('neuron_device_index')}", facts))
    return found


def _neuron_runtime(runtime: dict[str, Any]) -> Iterator[Line]:
    report = _part(runtime, "report")
    used = _part(_part(report, "memory_used"), "neuron_runtime_used_bytes")
    facts = {
        "memory_used_bytes": used.get("neuron_device"),
        "host_memory_used_bytes": used.get("host"),
    }
    yield telemetry_line("neuron", f"runtime {runtime.get('pid')}", facts)
    memory = _part(_part(used, "usage_breakdown"), "neuroncore_memory_usage")
    for core, counters in _part(_part(report, "neuroncore_counters"), "neuroncores_in_use").items():
        parts = _part(memory, core)
        facts = {
            "busy_percent": counters.get("neuroncore_utilization"),
            "flop_per_s": counters.get("flops"),
            "memory_used_bytes": sum(parts.values()) if parts else None,
        }
        yield telemetry_line("neuron", f"core {core}", facts)


def _part(whole: Any, name: str) -> dict[str, Any]:
    part = whole.get(name) if isinstance(whole, dict) else None
    return part if isinstance(part, dict) else {}


def _entries(whole: Any, name: str) -> list[dict[str, Any]]:
    part = whole.get(name) if isinstance(whole, dict) else None
    return [entry for entry in part if isinstance(entry, dict)] if isinstance(part, list) else []
