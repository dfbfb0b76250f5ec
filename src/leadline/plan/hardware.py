"""Accelerators and nodes: ``8xH200``, ``2x8xH100``, ``trn2.48xlarge``, ``4x48GB``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.units import GIB

_SHAPE = re.compile(
    r"(?:(?P<nodes>\d+)\s*x\s*)?(?:(?P<devices>\d+)\s*x\s*)?(?P<name>.+)", re.IGNORECASE
)
_GENERIC = re.compile(r"(?P<size>\d+(?:\.\d+)?)\s*(?P<unit>GB|GiB)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Device:
    """``peak_flops`` by operand type ("bf16", "fp8"); empty and 0 where only the size is known.

    Compared and hashed by identity: times are remembered for each device.
    """

    name: str
    vendor: str
    nominal_gb: float
    memory_bytes: int
    """What the driver reports to a process."""
    memory_spread_bytes: int
    board_mib: int
    """Size that nvidia-smi prints."""
    memory_source: str
    bandwidth_bytes_s: float
    peak_flops: Mapping[str, float]
    link_bytes_s: float
    multiprocessors: int
    sbuf_bytes_per_partition: int
    physical_cores: int
    source: str

    def peak(self, operands: str) -> float:
        """Dense peak in FLOP/s; types without a figure run at the bf16 rate."""
        return self.peak_flops.get(operands, self.peak_flops.get("bf16", 0.0))


@dataclass(frozen=True)
class Hardware:
    device: Device
    devices_per_node: int
    nodes: int
    host_bytes: int
    """Host memory of one node, 0 where unknown."""

    @property
    def devices(self) -> int:
        return self.devices_per_node * self.nodes

    def __str__(self) -> str:
        nodes = f"{self.nodes}x" if self.nodes > 1 else ""
        return f"{nodes}{self.devices_per_node}x{self.device.name}"


def parse_hardware(text: str) -> Hardware:
    """Devices and nodes from their short form; unknown names are refused with the known ones."""
    shape = _SHAPE.fullmatch(text.strip())
    if shape is None:
        raise _unknown(text)
    first, second, name = shape["nodes"], shape["devices"], shape["name"].strip()
    nodes, count = (int(first), int(second)) if second else (1, int(first or 1))
    if nodes < 1 or count < 1:
        raise PlanError(f"{text!r} names no device", where="hardware", cure="write 8xH200")
    table = read_table("hardware")
    known = _find(name, table)
    if known in table["node"]:
        node = table["node"][known]
        device = _device(node["device"], table)
        return Hardware(device, node["devices"], nodes * count, int(node["host_gib"] * GIB))
    if known in table["device"]:
        return Hardware(_device(known, table), count, nodes, 0)
    if generic := _GENERIC.fullmatch(name):
        return Hardware(_generic(generic, table["generic"]), count, nodes, 0)
    raise _unknown(name)


def _find(name: str, table: Mapping[str, Any]) -> str:
    """The catalog's spelling of a name, or the name itself."""
    folded = name.lower().removeprefix("nvidia ").strip()
    alias = str(table["aliases"].get(folded, folded)).lower()
    return next((key for key in (*table["node"], *table["device"]) if key.lower() == alias), name)


def _device(name: str, table: Mapping[str, Any]) -> Device:
    found = table["device"][name]
    return Device(
        name=name,
        vendor=found["vendor"],
        nominal_gb=found["nominal_gb"],
        memory_bytes=int(found["memory_gib"] * GIB),
        memory_spread_bytes=int(found["memory_spread_gib"] * GIB),
        board_mib=found.get("board_mib", int(found["memory_gib"] * 1024)),
        memory_source=found["memory_source"],
        bandwidth_bytes_s=found["bandwidth_tbs"] * 1e12,
        peak_flops={kind: peak * 1e12 for kind, peak in found["peak_tflops"].items()},
        link_bytes_s=found["link_gbs"] * 1e9,
        multiprocessors=found.get("multiprocessors", 0),
        sbuf_bytes_per_partition=found.get("sbuf_kib_per_partition", 0) * 1024,
        physical_cores=found.get("physical_cores", 1),
        source=found["source"],
    )


def _generic(match: re.Match[str], facts: Mapping[str, Any]) -> Device:
    size_gib = float(match["size"])
    usable = size_gib if match["unit"].lower() == "gib" else size_gib * facts["usable_fraction"]
    return Device(
        name=match[0],
        vendor="generic",
        nominal_gb=size_gib,
        memory_bytes=int(usable * GIB),
        memory_spread_bytes=int(size_gib * facts["spread_fraction"] * GIB),
        board_mib=int(size_gib * 1024),
        memory_source=facts["source"],
        bandwidth_bytes_s=0.0,
        peak_flops={},
        link_bytes_s=0.0,
        multiprocessors=0,
        sbuf_bytes_per_partition=0,
        physical_cores=1,
        source=facts["source"],
    )


def _unknown(name: str) -> PlanError:
    table = read_table("hardware")
    known = ", ".join((*table["device"], *table["node"]))
    return PlanError(
        f"no hardware {name!r} in the catalog",
        where="hardware",
        cure=f"write 8xH200, 2x8xH100, trn2.48xlarge or 4x48GB; known: {known}",
    )
