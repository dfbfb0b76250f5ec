# ruff: noqa: N802 - the names are those of NVML's package
from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest

from leadline.metrics import devices
from leadline.metrics.devices import (
    NeuronMonitor,
    measure_machine,
    measure_process,
    name_throttles,
    open_neuron,
    open_nvml,
    read_neuron,
)

DATA = Path(__file__).parents[1] / "data"
REPORT = (DATA / "neuron-monitor.json").read_bytes()


class FakeNvml:
    """Two devices; the second supports neither power nor throttle reasons.

    It has only names that the real package has, with as many arguments.
    """

    NVMLError = pynvml.NVMLError

    def __init__(self) -> None:
        self.memory = SimpleNamespace(used=70 * 2**30, total=80 * 2**30, free=10 * 2**30)

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return self.memory

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=97, memory=41)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._unless_second(handle, 693_500)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return 71

    def nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> int:
        return {pynvml.NVML_CLOCK_SM: 1755, pynvml.NVML_CLOCK_MEM: 3201}[clock]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        return self._unless_second(handle, pynvml.nvmlClocksThrottleReasonSwPowerCap)

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)  # constants

    def _unless_second(self, handle: int, value: int) -> int:
        if handle == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value


def test_the_fake_has_only_functions_of_the_real_package() -> None:
    functions = [name for name in vars(FakeNvml) if name.startswith("nvml")]
    assert len(functions) == 10
    for name in functions:
        real, fake = getattr(pynvml, name), getattr(FakeNvml(), name)
        signature(real).bind(*signature(fake).parameters)  # TypeError if it takes other arguments


def test_every_device_of_nvml_has_a_line_with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())  # type: ignore[arg-type]
    measure = open_nvml()
    assert measure
    first, second = measure()
    assert (first["source"], first["device"], second["device"]) == ("nvml", "0", "1")
    assert first["facts"] == {
        "name": "NVIDIA H200", "memory_used_bytes": 70 * 2**30, "memory_total_bytes": 80 * 2**30,
        "busy_percent": 97, "memory_busy_percent": 41, "power_w": 693.5, "temperature_c": 71,
        "sm_clock_mhz": 1755, "memory_clock_mhz": 3201, "throttle": ["power cap"],
    }  # fmt: skip
    assert set(first["facts"]) - set(second["facts"]) == {"power_w", "throttle"}


def test_an_idle_device_is_not_throttled() -> None:
    assert name_throttles(pynvml, pynvml.nvmlClocksThrottleReasonGpuIdle) == []
    every = name_throttles(pynvml, pynvml.nvmlClocksThrottleReasonAll)
    assert len(every) == 5


def test_without_the_driver_there_is_no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert open_nvml() is None


def test_a_report_of_neuron_monitor_is_read() -> None:
    lines = {line["device"]: line["facts"] for line in read_neuron(REPORT)}
    assert lines["runtime 4711"] == {
        "memory_used_bytes": 12_519_788_544, "host_memory_used_bytes": 6_997_643_264
    }  # fmt: skip
    assert lines["core 0"] == {
        "busy_percent": 42.01,
        "flop_per_s": 1_234_567_891_011,
        "memory_used_bytes": 193_986_816 + 176_285_056 + 20_971_520,
    }
    assert lines["device 0"]["mem_ecc_uncorrected"] == 0


@pytest.mark.parametrize(
    "line", [b"", b"not json\n", b"[]", b"{}", b'{"neuron_runtime_data": null}', b'"x"']
)
def test_what_is_no_report_has_no_lines(line: bytes) -> None:
    assert read_neuron(line) == []


def test_a_runtime_whose_groups_failed_still_has_its_line() -> None:
    report = {"neuron_runtime_data": [{"pid": 5, "error": "gone", "report": {"memory_used": None}}]}
    (line,) = read_neuron(json.dumps(report).encode())
    assert (line["device"], line["facts"]) == ("runtime 5", {})


def monitor(tmp_path: Path) -> Path:
    """A ``neuron-monitor`` that prints its report and waits."""
    program = tmp_path / "neuron-monitor"
    body = "\n".join(
        (
            f"#!{sys.executable}",
            "import json, sys, time",
            "assert sys.argv[1] == '-c' and json.load(open(sys.argv[2]))['period'] == '2s'",
            f"print({json.dumps(json.loads(REPORT))!r}, flush=True)",
            "time.sleep(60)",
        )
    )
    program.write_text(body, encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_neuron_monitor_is_started_read_and_ended(tmp_path: Path) -> None:
    running = NeuronMonitor(str(monitor(tmp_path)), 2.0)
    deadline = time.monotonic() + 30
    lines: list[Any] = []
    while not lines and time.monotonic() < deadline:
        lines = list(running.take())
        time.sleep(0.01)
    assert {line["source"] for line in lines} == {"neuron"}
    assert list(running.take()) == []
    running.close()
    assert running._process.returncode is not None
    assert not running._configuration.exists()


def test_without_neuron_monitor_there_is_no_neuron(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(devices, "_NEURON_MONITOR", "/nowhere/neuron-monitor")
    assert open_neuron(1.0) is None


_PARENT = """
import subprocess, sys
code = "x = b'x' * 50_000_000; print('up', flush=True); input()"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
input()
child.communicate(b"\\n")
"""


def test_a_server_is_measured_with_all_its_children() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        (line,) = measure_process(process.pid)
        alone = psutil.Process(process.pid).memory_info().rss
        assert (line["source"], line["device"]) == ("process", str(process.pid))
        assert line["facts"]["processes"] == 2
        assert line["facts"]["rss_bytes"] > alone + 50_000_000
        assert line["facts"]["cpu_s"] > 0
        process.communicate("\n")
    assert list(measure_process(process.pid)) == []


def test_the_machine_itself_is_measured() -> None:
    (line,) = measure_machine()
    facts = line["facts"]
    assert facts["cpu_count"] == os.cpu_count()
    assert 0 < facts["memory_used_bytes"] < facts["memory_total_bytes"]
