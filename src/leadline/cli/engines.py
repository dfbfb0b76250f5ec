"""``leadline engines``: the environments that real engines run in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import click

from leadline.cli.options import json_option
from leadline.cli.terminal import console, echo_json
from leadline.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from leadline.engines.installed import Installed
    from leadline.install.environment import Progress
    from leadline.install.recipe import Order

_SCHEMA = "leadline.engines/1"
_DEVICES = click.Choice(["cpu", "cuda", "neuron"])
_PIN = click.argument("pin", metavar="ENGINE[==VERSION]")


@click.group()
def engines() -> None:
    """Install, list and remove the engines that the process target starts.

    Each engine, version and device has an environment of its own under LEADLINE_ENGINES, or
    leadline/engines in the user's data folder. A deployment finds it by its pin: `engine:
    vllm==0.12.0`.
    """


@engines.command()
@_PIN
@click.option(
    "--device",
    type=_DEVICES,
    help="What it shall run on. Default: cuda where NVIDIA's driver is, else cpu.",
)
@click.option("--python", help="Program of the Python to use, where the recipe's is not found.")
@json_option
def install(pin: str, device: str | None, python: str | None, as_json: bool) -> int:
    """Install an engine: `leadline engines install vllm==0.32.0 --device cpu`.

    A killed install goes on where it was when the command is given again. Packages come from the
    index that pip is configured for, pinned to versions that were tried together.
    """
    from leadline.engines.installed import local_device
    from leadline.install import environment
    from leadline.install.recipe import read_order

    order = read_order(pin, device or local_device())
    screen = console(stderr=True)
    if order.release is None:
        screen.print(f"{order.name} has no lock: pip resolves it, and nobody has tried the result")
    with _Display(plain=as_json or not screen.is_terminal) as display:
        installed = environment.install(order, python, display.show)
    if as_json:
        echo_json(_facts(installed))
    else:
        click.echo(_describe(installed))
    return 0


@engines.command("list")
@json_option
def list_(as_json: bool) -> int:
    """List what is installed, and the versions that can be, with their sizes."""
    from leadline.engines.installed import list_installed
    from leadline.install.recipe import list_orders

    found = list_installed()
    there = {(one.engine, one.version, one.device) for one in found if one.state == "ready"}
    offered = [order for order in list_orders() if order[:3] not in there]
    if as_json:
        content = {"engines": map(_facts, found), "offered": map(_offer, offered)}
        echo_json({"schema": _SCHEMA, **{key: list(each) for key, each in content.items()}})
        return 0
    for one in found:
        click.echo(_describe(one))
    for order in offered:
        offer = _offer(order)
        click.echo(
            f"{order.name}  {order.device}  not installed: "
            f"{show_bytes(offer['download_bytes'])} to download, "
            f"{show_bytes(offer['disk_bytes'])} on disk"
        )
    return 0


@engines.command()
@_PIN
@click.option("--device", type=_DEVICES, help="Default: whichever there are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(pin: str, device: str | None, yes: bool) -> int:
    """Remove environments that `leadline engines install` made, and nothing else."""
    from leadline.install import environment

    chosen = environment.choose(pin, device)
    for one in chosen:
        click.echo(_describe(one), err=True)
    if not (yes or click.confirm("remove?", err=True)):
        return 0
    environment.remove(chosen)
    return 0


class _Display:
    """The running step: with a clock on a terminal, as lines elsewhere."""

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain

    def __enter__(self) -> Self:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=self._plain,
        )
        self._task = self._bar.add_task("")
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        self._bar.update(self._task, description=word_progress(progress))
        if self._plain:
            self._console.print(word_progress(progress), markup=False, highlight=False)


def word_progress(progress: Progress) -> str:
    """``packages: torch 2.9.1 (0 B of 3.91 GiB; about 2 min 05 s left)``."""
    text = f"{progress.phase}: {progress.text}"
    if not progress.total_bytes:
        return text
    share = f"{show_bytes(progress.done_bytes)} of {show_bytes(progress.total_bytes)}"
    left = f"; about {show_seconds(progress.remaining_s)} left" if progress.remaining_s else ""
    return f"{text} ({share}{left})"


def _facts(one: Installed) -> dict[str, Any]:
    return {**one.facts(), "path": str(one.folder)}


def _offer(order: Order) -> dict[str, Any]:
    return {
        "engine": order.engine,
        "version": order.version,
        "device": order.device,
        "download_bytes": order.download_bytes,
        "disk_bytes": order.release.disk_mb * 10**6 if order.release else None,
    }


def _describe(one: Installed) -> str:
    size = show_bytes(one.size_bytes) if one.size_bytes else "size unknown"
    return f"{one.name}  {one.device}  {one.state}  {size}  {one.folder}"
