from __future__ import annotations

import pytest

from leadline.catalog.reading import read_table
from leadline.errors import PlanError
from leadline.plan.hardware import parse_hardware
from leadline.units import GIB


@pytest.mark.parametrize(
    ("text", "devices", "nodes", "name"),
    [
        ("8xH200", 8, 1, "H200"),
        ("H100", 1, 1, "H100"),
        ("2x8xH100", 16, 2, "H100"),
        ("4 x a100-40gb", 4, 1, "A100-40GB"),
        ("2xA100", 2, 1, "A100-80GB"),
        ("H100-80GB", 1, 1, "H100"),
        ("2x4090", 2, 1, "RTX4090"),
        ("NVIDIA H200", 1, 1, "H200"),
        ("trn2.48xlarge", 64, 1, "trn2-core"),
        ("2xtrn2.48xlarge", 128, 2, "trn2-core"),
        ("trn1.32xlarge", 32, 1, "trn1-core"),
        ("8x48GB", 8, 1, "48GB"),
    ],
)
def test_short_forms(text: str, devices: int, nodes: int, name: str) -> None:
    hardware = parse_hardware(text)
    assert (hardware.devices, hardware.nodes, hardware.device.name) == (devices, nodes, name)


def test_memory_is_what_the_driver_reports() -> None:
    assert parse_hardware("H200").device.memory_bytes / GIB == pytest.approx(139.8)
    assert parse_hardware("H100").device.memory_bytes / GIB == pytest.approx(79.19)
    assert parse_hardware("trn2.48xlarge").device.memory_bytes == 24 * GIB


def test_peaks_are_dense() -> None:
    device = parse_hardware("8xH200").device
    assert device.peak("bf16") == pytest.approx(989.4e12)
    assert device.peak("fp4") == device.peak("bf16")


def test_every_entry_has_sources() -> None:
    table = read_table("hardware")
    for entry in table["device"].values():
        assert entry["source"]
        assert entry["memory_source"]
    for node in table["node"].values():
        assert node["source"]
        assert node["device"] in table["device"]


@pytest.mark.parametrize("text", ["", "8xH300", "0xH100", "eight H100"])
def test_unknown_hardware_is_refused(text: str) -> None:
    with pytest.raises(PlanError) as refused:
        parse_hardware(text)
    assert "8xH200" in refused.value.cure
