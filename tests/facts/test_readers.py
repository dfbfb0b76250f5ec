"""The readers of engine sources, on small sources with the forms that real releases use."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from facts.merge import merge
from facts.sglang import read_sglang
from facts.vllm import read_vllm

CONFIG = """
from typing import Literal, Optional
from dataclasses import field
from pydantic import Field
KVDtype = Literal["auto", "fp8"]
@config
class CacheConfig:
    block_size: Optional[int] = None
    \"\"\"Size of a block.\"\"\"
    gpu_memory_utilization: float = Field(default=0.9, gt=0)
    cache_dtype: KVDtype = "auto"
    swap_space: float = 4
    \"\"\"Deprecated: has no effect.\"\"\"
    sizes: list[int] = field(default_factory=list)
    nested: "Optional[CacheConfig]" = None
    sharing: bool | None = True
"""
ARGS = """
import argparse
from vllm.config import CacheConfig
def get_kwargs(cls):
    for name in ():
        if name in {"max_model_len"}:
            pass
class EngineArgs:
    block_size: int = CacheConfig.block_size
    max_model_len: int = None
    @staticmethod
    def add_cli_args(parser):
        kwargs = get_kwargs(CacheConfig)
        group = parser.add_argument_group("x")
        group.add_argument("--block-size", **kwargs["block_size"])
        group.add_argument("--max-model-len", type=int, default=EngineArgs.max_model_len)
        kwargs["cache_dtype"]["choices"] = ["auto", "fp8", "int8"]
        group.add_argument("--kv-cache-dtype", "-kv", **kwargs["cache_dtype"])
        group.add_argument("--swap-space", **kwargs["swap_space"])
        group.add_argument("--sizes", **{**kwargs["sizes"], "default": None})
        group.add_argument("--nested", **kwargs["nested"])
        group.add_argument("--sharing", **kwargs["sharing"])
        for flag, kind in [("--old-a", str), ("--old-b", bool)]:
            group.add_argument(flag, type=kind, deprecated=True)
        if parser:
            group.add_argument("--legacy", action="store_true", help="[DEPRECATED] no use.")
        return parser
class AsyncEngineArgs(EngineArgs):
    @staticmethod
    def add_cli_args(parser):
        return EngineArgs.add_cli_args(parser)
"""
FRONT = """
from vllm.engine.arg_utils import AsyncEngineArgs, get_kwargs
class FrontendArgs:
    api_key: list[str] | None = None
    port: int = 8000
    @classmethod
    def add_cli_args(cls, parser):
        front = get_kwargs(cls)
        for key, value in front.items():
            parser.add_argument(f"--{key.replace('_', '-')}", **value)
        return parser
def make_arg_parser(parser):
    parser.add_argument("model_tag", nargs="?")
    parser = FrontendArgs.add_cli_args(parser)
    return AsyncEngineArgs.add_cli_args(parser)
"""
SERVER_ARGS = """
from typing import List, Literal, Optional
CHOICES = ["fa3", *["triton"]]
class ServerArgs:
    model_path: A[str, Arg(help="Where.", aliases=["--model"])]
    tp_size: A[int, Arg(help="x", cli_name="--tp-size", aliases=["--tensor-parallel-size"])] = 1
    backend: A[Optional[str], Arg(help="x", choices=CHOICES)] = None
    quiet: A[bool, "Say nothing."] = False
    hidden: A[int, Arg(no_cli=True)] = 3
    lengths: A[Optional[List[int]], "Some."] = None
    def add_cli_args(parser):
        add_cli_args_from_dataclass(parser, ServerArgs)
        parser.add_argument("--old", action=DeprecatedAction, help="--old is deprecated.")
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return folder


@pytest.fixture
def vllm(tmp_path: Path) -> dict:
    files = {
        "config/__init__.py": "from vllm.config.cache import CacheConfig",
        "config/cache.py": CONFIG,
        "engine/arg_utils.py": ARGS,
        "entrypoints/common/cli_args.py": FRONT,
        "entrypoints/llm.py": "class LLM:\n  def __init__(self, model: str, seed: int = 0): ...",
        "envs.py": 'environment_variables = {"VLLM_X": 1, "HOME": 2}',
    }
    return read_vllm(write(tmp_path, files))


def test_options_through_every_way_of_adding_them(vllm: dict) -> None:
    cli = vllm["cli"]
    assert set(cli) == {
        "api_key", "port", "block_size", "max_model_len", "kv_cache_dtype", "swap_space", "sizes",
        "nested", "sharing", "old_a", "old_b", "legacy",
    }  # fmt: skip
    assert cli["port"] == {"kind": "int", "default": 8000, "flags": ["--port"]}
    assert cli["max_model_len"]["kind"] == "size"
    assert cli["sizes"] == {"kind": "int", "many": True, "default": None, "flags": ["--sizes"]}
    assert (cli["nested"]["kind"], cli["sharing"]["kind"]) == ("json", "boolean")
    assert cli["api_key"]["many"]


def test_what_a_caller_changes_afterwards_counts(vllm: dict) -> None:
    assert vllm["cli"]["kv_cache_dtype"] == {
        "kind": "str",
        "choices": ["auto", "fp8", "int8"],
        "default": "auto",
        "flags": ["--kv-cache-dtype", "-kv"],
    }


def test_deprecation_by_parser_help_or_docstring(vllm: dict) -> None:
    deprecated = {name for name, spec in vllm["cli"].items() if "deprecated" in spec}
    assert deprecated == {"swap_space", "old_a", "old_b", "legacy"}


def test_keywords_in_python_and_variables(vllm: dict) -> None:
    assert set(vllm["python"]) == {"block_size", "max_model_len", "model", "seed"}
    assert set(vllm["environment"]) == {"VLLM_X"}


def test_sglang_options_from_annotations(tmp_path: Path) -> None:
    read = read_sglang(write(tmp_path, {"srt/server_args.py": SERVER_ARGS}))
    cli = read["cli"]
    assert set(cli) == {"model_path", "tp_size", "backend", "quiet", "lengths", "old"}
    assert cli["tp_size"]["flags"] == ["--tp-size", "--tensor-parallel-size"]
    assert cli["backend"]["choices"] == ["fa3", "triton"]
    assert cli["quiet"]["kind"] == "switch"
    assert cli["lengths"] == {"kind": "int", "many": True, "default": None, "flags": ["--lengths"]}
    assert "deprecated" in cli["old"]
    assert "hidden" in read["python"]


def test_a_source_without_a_parser_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no class"):
        read_vllm(tmp_path)


def test_releases_become_ranges_and_changes() -> None:
    one, two = {"kind": "int"}, {"kind": "str"}
    merged = merge(
        [{"cli": {"a": one, "b": one}}, {"cli": {"a": two}}, {"cli": {"a": two, "b": one}}]
    )
    assert merged["cli"]["a"] == {"in": [[0, 2]], "facts": [[0, one], [1, two]]}
    assert merged["cli"]["b"]["in"] == [[0, 0], [2, 2]]
