"""Accelerators: driver, free memory, how they reach each other."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from leadline.preflight.check import Check, Needs, State, lacking
from leadline.units import show_bytes

_BUSY = 0.05
"""More than this share of a GPU's memory in use before anything of ours runs."""
_NEURON_LS = "/opt/aws/neuron/bin/neuron-ls"
_NEURON_DRIVER = Path("/sys/module/neuron/version")
# Names of AWS's packages for apt and yum alike.
_NEURON_RUNTIME = ("aws-neuronx-runtime-lib", "aws-neuronx-collectives")
_QUESTION_S = 20


def check_devices(needs: Needs) -> Iterator[Check]:
    yield from _nvidia(needs)
    yield from _neuron(needs)


def _nvidia(needs: Needs) -> Iterator[Check]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        cure = "install NVIDIA's driver (nvidia-smi shows it)" if needs.gpus else ""
        yield Check("NVIDIA driver", lacking(needs.gpus), f"not there: {error}", cure)
        return
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        found = f"{driver}, CUDA up to {cuda // 1000}.{cuda % 1000 // 10}"
        yield Check("NVIDIA driver", "ok", found)
        yield from judge_gpus(_read_gpus(pynvml), needs.gpus)
        yield from _peers(pynvml)
        yield from _topology(pynvml, needs.gpus)
    finally:
        pynvml.nvmlShutdown()


def _read_gpus(nvml: Any) -> list[tuple[str, int, int]]:
    """(name, free bytes, total bytes) of each."""
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        found.append((str(nvml.nvmlDeviceGetName(device)), memory.free, memory.total))
    return found


def judge_gpus(gpus: list[tuple[str, int, int]], needed: int) -> Iterator[Check]:
    names = ", ".join(sorted({name for name, _, _ in gpus})) or "none"
    if len(gpus) < needed:
        cure = "run the campaign on another machine, or lower tensor_parallel_size"
        yield Check("GPUs", "fail", f"{len(gpus)} ({names}), the plan needs {needed}", cure)
    else:
        yield Check("GPUs", "ok" if gpus else "absent", f"{len(gpus)} ({names})")
    for index, (_, free, total) in enumerate(gpus):
        found = f"{show_bytes(free)} of {show_bytes(total)} free"
        if 1 - free / total > _BUSY:
            cure = "nvidia-smi names the processes that hold it; end yours, or wait"
            yield Check(f"GPU {index} memory", "warn", found, cure)
        else:
            yield Check(f"GPU {index} memory", "ok", found)


def _peers(nvml: Any) -> Iterator[Check]:
    """Whether every pair of GPUs reads the other's memory directly."""
    count = nvml.nvmlDeviceGetCount()
    if count < 2:  # noqa: PLR2004
        return
    apart = []
    for one, other in combinations(range(count), 2):
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in (one, other)]
        try:
            status = nvml.nvmlDeviceGetP2PStatus(*handles, nvml.NVML_P2P_CAPS_INDEX_READ)
        except nvml.NVMLError as error:
            yield Check("GPU peer access", "absent", f"the driver does not tell: {error}")
            return
        if status != nvml.NVML_P2P_STATUS_OK:
            apart.append(f"{one}-{other}")
    if apart:
        cure = "NCCL goes through host memory: NCCL_P2P_DISABLE=1 where it hangs; see IOMMU and ACS"
        yield Check("GPU peer access", "warn", f"none between {', '.join(apart)}", cure)
    else:
        yield Check("GPU peer access", "ok", f"all pairs of {count}")


def _topology(nvml: Any, needed: int) -> Iterator[Check]:
    """By which way the GPUs reach each other, where there are several."""
    count = nvml.nvmlDeviceGetCount()
    if count < 2:  # noqa: PLR2004
        return
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    links = min(_count_links(nvml, handle) for handle in handles)
    try:
        farthest = max(
            nvml.nvmlDeviceGetTopologyCommonAncestor(*pair) for pair in combinations(handles, 2)
        )
    except nvml.NVMLError:
        farthest = 0
    yield judge_topology(links, farthest, needed)


def _count_links(nvml: Any, device: Any) -> int:
    """NVLinks that are up; those that a device does not have are refused."""
    up = 0
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            up += nvml.nvmlDeviceGetNvLinkState(device, link)
        except nvml.NVMLError:
            break
    return up


def judge_topology(links: int, farthest: int, needed: int) -> Check:
    """``links``: NVLinks of the GPU with the fewest; ``farthest``: NVML's level of a pair."""
    if links:
        return Check("GPU topology", "ok", f"{links} NVLinks up on each GPU")
    found = f"no NVLink; the farthest pair meets {_LEVELS.get(farthest, 'somewhere unknown')}"
    if needed > 1 and farthest >= _HOST_BRIDGE:
        cure = "expect slow all-reduces: fewer GPUs per engine, or those of one switch"
        return Check("GPU topology", "warn", f"{found} (nvidia-smi topo -m)", cure)
    return Check("GPU topology", "ok", found)


# nvmlGpuTopologyLevel_t, as `nvidia-smi topo -m` calls them.
_HOST_BRIDGE = 30
_LEVELS = {
    0: "on one board",
    10: "at one PCIe switch (PIX)",
    20: "over several PCIe switches (PXB)",
    30: "at the CPU's host bridge (PHB)",
    40: "within one NUMA node (NODE)",
    50: "across CPU sockets (SYS)",
}


def _neuron(needs: Needs) -> Iterator[Check]:
    program = shutil.which("neuron-ls") or shutil.which(_NEURON_LS)
    needed = needs.neuron_devices
    if program is None:
        cure = "install aws-neuronx-tools and aws-neuronx-dkms" if needed else ""
        yield Check("Neuron tools", lacking(needed), "no neuron-ls", cure)
        return
    driver = _NEURON_DRIVER.read_text().strip() if _NEURON_DRIVER.exists() else None
    cure = "" if driver else "install aws-neuronx-dkms and load it: modprobe neuron"
    yield Check("Neuron driver", "ok" if driver else "warn", driver or "not loaded", cure)
    yield _neuron_runtime(needed if "process" in needs.targets else 0)
    try:
        said = subprocess.run(
            [program, "--json-output"], capture_output=True, timeout=_QUESTION_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = b""
    yield judge_neuron(said, needed)


def _neuron_runtime(needed: int) -> Check:
    """A container brings its own."""
    found = {name: version for name in _NEURON_RUNTIME if (version := _package_version(name))}
    said = ", ".join(f"{name.removeprefix('aws-neuronx-')} {v}" for name, v in found.items())
    if len(found) == len(_NEURON_RUNTIME):
        return Check("Neuron runtime", "ok", said)
    missing = " ".join(name for name in _NEURON_RUNTIME if name not in found)
    cure = f"install {missing}" if needed else ""
    return Check("Neuron runtime", lacking(needed), said or "not installed", cure)


def _package_version(name: str) -> str:
    """By the package manager that is there; empty where none knows it."""
    for program, *options in (
        ("dpkg-query", "--show", "--showformat=${Version}"),
        ("rpm", "--query", "--queryformat", "%{VERSION}"),
    ):
        if path := shutil.which(program):
            asked = subprocess.run(
                [path, *options, name], capture_output=True, text=True, check=False
            )
            if not asked.returncode:
                return asked.stdout.strip()
    return ""


def judge_neuron(said: bytes, needed: int) -> Check:
    """The answer of ``neuron-ls --json-output``: one entry for each device."""
    try:
        devices = json.loads(said)
        cores = sum(device["nc_count"] for device in devices)
        memory = sum(device["memory_size"] for device in devices)
    except (ValueError, TypeError, KeyError):
        state: State = "fail" if needed else "warn"
        return Check("Neuron devices", state, "neuron-ls shows none", "look at its own message")
    found = f"{len(devices)} with {cores} cores and {show_bytes(memory)}"
    held = [p for device in devices for p in device.get("neuron_processes") or ()]
    if len(devices) < needed:
        cure = "run it on a larger instance, or lower tensor_parallel_size"
        return Check("Neuron devices", "fail", f"{found}, the plan needs {needed}", cure)
    if held:
        cure = "end them: a core serves one process at a time"
        return Check("Neuron devices", "warn", f"{found}; {len(held)} processes hold some", cure)
    return Check("Neuron devices", "ok", found)
