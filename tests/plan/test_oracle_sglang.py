"""Our SGLang arithmetic against its own methods, cut out of the 0.5.6 wheel and run on stand-ins.

The wheel is looked for in LEADLINE_ORACLE_WHEELS (``pip download --no-deps --dest FOLDER
sglang==0.5.6.post2``).
"""

from __future__ import annotations

import ast
import os
import textwrap
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadline.plan.architecture import Model, load_model
from leadline.plan.hardware import parse_hardware
from leadline.plan.sglang import split_pools
from leadline.plan.sglang_settings import read_sglang_settings
from leadline.units import GIB

pytestmark = pytest.mark.oracle

FOLDER = os.environ.get("LEADLINE_ORACLE_WHEELS", "")
MODELS = ("Llama-4-Scout-17B-16E-Instruct", "Qwen3-VL-8B-Instruct", "Qwen3-32B", "DeepSeek-V3")
DEVICES = ("H200", "H100", "A100-40GB", "B200", "L40S", "RTX4090", "RTX5090", "H20")
Space = types.SimpleNamespace


class Engine:
    """Single methods of SGLang's classes, without the classes around them."""

    def __init__(self, wheel: Path) -> None:
        archive = zipfile.ZipFile(wheel)
        arguments = archive.read("sglang/srt/server_args.py").decode()
        runner = archive.read("sglang/srt/model_executor/model_runner.py").decode()
        self.defaults = _cut(arguments, "_handle_gpu_memory_settings")
        self.for_images = _cut(arguments, "adjust_mem_fraction_for_vlm")
        self.count = _cut(runner, "profile_max_num_token")
        self.split = _cut(runner, "set_num_token_hybrid")

    def fraction(self, model: Model, memory_mib: int, given: dict[str, Any]) -> float:
        vision = model.vision
        config = vision and Space(num_hidden_layers=vision.layers, hidden_size=vision.hidden)
        shown = given.get("enable_multimodal") or model.engine_class not in _OFF
        facts = Space(is_multimodal=bool(vision) and shown, hf_config=Space(vision_config=config))
        server = Space(
            chunked_prefill_size=given.get("chunked_prefill_size"),
            cuda_graph_max_bs=given.get("cuda_graph_max_bs"),
            cuda_graph_bs=None,
            piecewise_cuda_graph_tokens=[1],
            mem_fraction_static=None,
            max_prefill_tokens=16384,
            tp_size=given["tp_size"],
            pp_size=given["pp_size"],
            dp_size=given["dp_size"],
            enable_dp_attention=given["enable_dp_attention"],
            speculative_algorithm=None,
            enable_piecewise_cuda_graph=False,
            get_model_config=lambda: facts,
            _generate_cuda_graph_batch_sizes=lambda: [1],
        )
        server.adjust_mem_fraction_for_vlm = lambda found: self.for_images(server, found)
        self.defaults(server, memory_mib)
        return float(server.mem_fraction_static)

    def pools(self, model: Model, ask: dict[str, Any], free_gib: float) -> tuple[int, int]:
        attention = model.layers[0].attention
        latent = attention.latent
        heads = max(1, attention.kv_heads // ask["tp_size"])
        runner = Space(
            device="cuda",
            gpu_id=0,
            free_gib=free_gib,
            is_draft_worker=False,
            mambaish_config=None,
            num_effective_layers=len(model.layers),
            use_mla_backend=latent is not None,
            kv_cache_dtype=2,
            mem_fraction_static=1.0,
            is_hybrid_swa=ask["ratio"],
            attention_chunk_size=max(reach.tokens for reach in model.reaches),
            server_args=Space(page_size=1),
            model_config=Space(
                kv_lora_rank=latent.kv_rank if latent else 0,
                qk_rope_head_dim=latent.rope_size if latent else 0,
                get_num_kv_heads=lambda _ranks: heads,
                head_dim=attention.key_size,
                context_len=ask["context"],
                hf_config=Space(architectures=[model.engine_class]),
            ),
        )
        _GLOBALS["get_available_gpu_memory"] = lambda *_args, **_options: free_gib
        runner.max_total_num_tokens = self.count(runner, free_gib)
        if not ask["ratio"]:
            return runner.max_total_num_tokens, 0
        self.split(runner)
        return runner.full_max_total_num_tokens, runner.swa_max_total_num_tokens


_OFF = ("Gemma3ForConditionalGeneration", "Llama4ForConditionalGeneration")
_GLOBALS: dict[str, Any] = {
    "is_npu": lambda: False,
    "is_float4_e2m1fn_x2": lambda _dtype: False,
    "is_deepseek_nsa": lambda _config: False,
    "get_attention_tp_size": lambda: 1,
    "get_world_group": lambda: Space(world_size=1, cpu_group=None),
    "torch": Space(_utils=Space(_element_size=lambda size: size)),
    "logger": Space(info=lambda *_: None, warning=lambda *_: None),
}


def _cut(source: str, name: str) -> Callable[..., Any]:
    """One method's source, compiled as a function of ``self``."""
    nodes = ast.walk(ast.parse(source))
    found = next(n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == name)
    found.args.args = [ast.arg(argument.arg) for argument in found.args.args]
    found.returns, found.decorator_list = None, []
    text = textwrap.dedent(ast.unparse(found))
    exec(compile(text, name, "exec"), _GLOBALS)  # noqa: S102 - the engine's own
    return _GLOBALS[name]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def engine() -> Engine:
    found = sorted(Path(FOLDER).glob("sglang-0.5.6*.whl")) if FOLDER else []
    if not found:
        pytest.skip("no sglang-0.5.6 wheel in LEADLINE_ORACLE_WHEELS")
    return Engine(found[-1])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(MODELS),
    device=st.sampled_from(DEVICES),
    tensor=st.sampled_from([1, 2, 4, 8, 16]),
    pipeline=st.sampled_from([1, 2]),
    chunk=st.sampled_from([None, 512, 4096, 16384, 131_072]),
    batch=st.sampled_from([None, 8, 160, 512]),
    attention=st.booleans(),
    images=st.booleans(),
)
def test_default_fraction(
    *,
    engine: Engine,
    name: str,
    device: str,
    tensor: int,
    pipeline: int,
    chunk: int | None,
    batch: int | None,
    attention: bool,
    images: bool,
) -> None:
    model, found = load_model(name), parse_hardware(device).device
    given: dict[str, Any] = {
        "tp_size": tensor,
        "pp_size": pipeline,
        "dp_size": 2,
        "enable_dp_attention": attention,
        "enable_multimodal": images,
    }
    given |= {} if chunk is None else {"chunked_prefill_size": chunk}
    given |= {} if batch is None else {"cuda_graph_max_bs": batch}
    ours = read_sglang_settings(given, model, found).fraction
    assert ours == pytest.approx(engine.fraction(model, found.board_mib, given), abs=1e-9)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(MODELS),
    tensor=st.sampled_from([1, 2, 4, 8, 16]),
    free_gib=st.integers(1, 140),
    context=st.integers(8193, 2**23),
    ratio=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_tokens_of_the_pools(
    *, engine: Engine, name: str, tensor: int, free_gib: int, context: int, ratio: float
) -> None:
    model = load_model(name)
    heeded = ratio if model.engine_class == "Llama4ForConditionalGeneration" else 0.0
    given = {"tp_size": tensor, "context_length": context, "hybrid_kvcache_ratio": ratio}
    read = read_sglang_settings(given, model, parse_hardware("H200").device)
    pools = split_pools(model, read, free_gib * GIB)
    asked = {"tp_size": tensor, "context": context, "ratio": heeded}
    assert (pools.full_tokens, pools.local_tokens) == engine.pools(model, asked, free_gib)
