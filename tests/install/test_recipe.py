from __future__ import annotations

import pytest

from leadline.errors import SpecError
from leadline.install.pip import fold
from leadline.install.recipe import Order, list_orders, read_order

ORDERS = list_orders()
NAMES = [f"{order.name}-{order.device}" for order in ORDERS]


@pytest.mark.parametrize("order", ORDERS, ids=NAMES)
def test_a_lock_pins_the_engine_itself_and_every_package_once(order: Order) -> None:
    pins = {fold(package.name): package.version for package in order.packages}
    assert pins[fold(order.recipe.package)] == order.version
    assert len(pins) == len(order.packages)


@pytest.mark.parametrize("order", ORDERS, ids=NAMES)
def test_a_release_says_what_it_takes_and_how_that_is_known(order: Order) -> None:
    assert order.release
    assert all(package.download_bytes > 0 for package in order.packages)
    assert order.release.disk_mb * 10**6 > order.download_bytes
    assert order.release.disk_source
    assert order.recipe.source


@pytest.mark.parametrize("order", ORDERS, ids=NAMES)
def test_what_is_left_out_is_in_no_lock(order: Order) -> None:
    names = {fold(package.name) for package in order.packages}
    assert names.isdisjoint(map(fold, order.recipe.left_out))
    assert "vllm-neuron" not in names  # a placeholder on the public index


def test_without_a_version_it_is_the_newest_with_a_lock() -> None:
    assert read_order("vllm", "cpu").version == "0.32.0"


def test_a_version_without_a_lock_is_left_to_pip() -> None:
    order = read_order("vllm==0.20.0", "cpu")
    assert order.release is None
    assert order.packages == ()


@pytest.mark.parametrize(
    ("pin", "device", "said", "cure"),
    [
        ("neuron", "neuron", "placeholder", "Neuron Deep Learning AMI"),
        ("neuron==0.3.0", "cpu", "placeholder", "Neuron Deep Learning AMI"),
        ("sglang==0.5.6.post2", "cpu", "no build for CPUs", "--device cuda"),
        ("llamacpp", "cuda", "no recipe for llamacpp on cuda", "--device cpu"),
        ("vllm", "neuron", "no recipe for vllm on neuron", "cpu, cuda"),
        ("vlm==1.0", "cpu", "no recipe for 'vlm==1.0'", "vllm, sglang, llamacpp"),
        ("vllm==", "cpu", "no recipe for 'vllm=='", "ENGINE==VERSION"),
        ("vllm==1.0; rm", "cpu", "no recipe for", "ENGINE==VERSION"),
    ],
)
def test_what_cannot_be_installed_says_what_to_do_instead(
    pin: str, device: str, said: str, cure: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        read_order(pin, device)
    assert said in refusal.value.what
    assert cure in refusal.value.cure
    assert "pip install vllm-neuron" not in str(refusal.value)
