"""``leadline models``: small model folders for real engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from leadline.cli.options import json_option, read_tokens
from leadline.cli.terminal import echo_json
from leadline.units import show_bytes

_OUT = click.argument("out", type=click.Path(path_type=Path))
_SHAPES = ("gqa", "swa", "llama4", "qwen3")  # of leadline.models.shapes, which imports more


@click.group()
def models() -> None:
    """Make small model folders that real engines load, and list the models Leadline knows."""


@models.command("make-tiny")
@_OUT
@click.option("--shape", type=click.Choice(_SHAPES), default="gqa", show_default=True)
@click.option("--window", default="128K", show_default=True, help="Context window, up to any.")
@click.option("--layers", type=click.IntRange(1, 1000), default=2, show_default=True)
@click.option("--heads", type=click.IntRange(1, 1024), default=8, show_default=True)
@click.option("--kv-heads", type=click.IntRange(1, 1024), default=2, show_default=True)
@click.option("--head-dim", type=click.IntRange(2, 1024), default=32, show_default=True)
@click.option("--hidden", type=click.IntRange(8, 65536), default=64, show_default=True)
@click.option("--intermediate", type=click.IntRange(8, 65536), default=128, show_default=True)
@click.option("--local-window", help="Sliding window or chunk, in tokens. Default: 512.")
@click.option("--experts", type=click.IntRange(0, 1024), default=0, help="Of llama4. 0: dense.")
@click.option(
    "--tokenizer",
    default="smollm2",
    show_default=True,
    help="smollm2, bytes (a token for each byte), or a model folder to take it from.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@json_option
def make_tiny(out: Path, as_json: bool, **options: Any) -> int:
    """Write a small random model: config.json, model.safetensors and a real tokenizer.

    It answers in words that mean nothing, and loads, prefills and fills the KV cache as a large
    model of its shape does, at any window. Equal options give equal bytes. gqa: Llama, full
    attention; swa: Mistral, a sliding window in every layer; llama4: chunks in three layers of
    four; qwen3: normed heads.
    An OUT that ends in .gguf is written as a GGUF with the same numbers (gqa only).
    """
    if out.suffix == ".gguf":
        from leadline.models.tiny_gguf import make_tiny_gguf as make
    else:
        from leadline.models.tiny import make_tiny as make

    shape, tokenizer, seed = (options.pop(name) for name in ("shape", "tokenizer", "seed"))
    local_window = options.pop("local_window") or "512"
    options["window"] = read_tokens("--window", options["window"])
    options["local_window"] = read_tokens("--local-window", local_window)
    _tell(make(out, shape, options, tokenizer, seed), as_json=as_json)
    return 0


@models.command()
@click.argument("source")
@_OUT
@json_option
def unpack(source: str, out: Path, as_json: bool) -> int:
    """Write a GGUF as a folder of bf16 safetensors: `leadline models unpack smollm2 ./smollm2`.

    SOURCE is a model of the catalog or a GGUF file of the Llama architecture. The weights are
    those of the GGUF, which is quantised; the tokenizer gives the ids that llama.cpp gives.
    An OUT that ends in .gguf is one file of the same bf16 numbers for llama.cpp.
    """
    if out.suffix == ".gguf":
        from leadline.models.unpack import unpack_gguf as write
    else:
        from leadline.models.unpack import unpack as write

    _tell(write(source, out), as_json=as_json)
    return 0


@models.command("list")
@json_option
def list_(as_json: bool) -> int:
    """List the models that Leadline can plan for by name, and those that are installed."""
    from leadline.catalog.assets import asset_facts, asset_names
    from leadline.catalog.reading import model_names

    packaged = {name: asset_facts("models", name) for name in asset_names("models")}
    if as_json:
        echo_json({"schema": "leadline.models/1", "packaged": packaged, "planned": model_names()})
        return 0
    for name, facts in packaged.items():
        click.echo(f"{name}  runs: {facts['source']}, {facts['licence']}")
    for name in model_names():
        click.echo(f"{name}  plans")
    return 0


def _tell(folder: Path, *, as_json: bool) -> None:
    files = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    sizes = {file.name: file.stat().st_size for file in files}
    if as_json:
        echo_json({"schema": "leadline.model/1", "path": str(folder), "files": sizes})
    else:
        click.echo(f"{folder}: {show_bytes(sum(sizes.values()))} in {len(sizes)} files")
