"""Our pool against vLLM's own code, executed from the wheel with everything around it stubbed.

Only the arithmetic modules are real; torch and the rest of vLLM are stand-ins, so the test needs
neither. Every vLLM wheel in the folder named by LEADLINE_ORACLE_WHEELS is asked; `make oracle`
fills one with the CPU builds of 0.12.0 and 0.32.0, which hold the same arithmetic in less space.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadline.catalog.reading import model_names
from leadline.plan.architecture import Model, load_model
from leadline.plan.kv_cache import PoolSettings, plan_pool
from leadline.plan.releases import find_vllm_release
from leadline.plan.weights import Shards, stage_layers

pytestmark = pytest.mark.oracle

FOLDER = os.environ.get("LEADLINE_ORACLE_WHEELS", "")
PINNED = ("0.12.0", "0.19.0", "0.33.0")
FOUND = {wheel.name.split("-")[1] for wheel in Path(FOLDER).glob("vllm*-*.whl")} if FOLDER else ()
VERSIONS = tuple(sorted(FOUND)) or PINNED
REAL = (
    "vllm.utils.math_utils",
    "vllm.v1.kv_cache_layout",
    "vllm.v1.kv_cache_spec_registry",
    "vllm.v1.kv_cache_interface",
    "vllm.v1.core.kv_cache_utils",
    "vllm.v1.core.kv_cache_config_builder",
    "vllm.v1.core.kv_cache_planning",
)
"""Those that a release has; what it lacks is not asked for."""
DTYPE_BYTES = {"bfloat16": 2, "fp8": 1}


@dataclass
class Answer:
    starts: bool
    blocks: int
    groups: list[int]
    lines: list[str]


class Anything(type):
    """A class with every attribute, as enums need, that answers None when called."""

    def __call__(cls, *_args: Any, **_options: Any) -> None:
        return None

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class StandIn(types.ModuleType):
    """A module whose every name is a class of its own, good for annotations and nothing else."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = Anything(name, (), {})
        setattr(self, name, made)
        return made


class Oracle:
    """``kv_cache_utils`` of one release and the spec classes it sorts layers into."""

    def __init__(self, wheel: Path) -> None:
        self.lines: list[str] = []
        self.finder = _Finder(wheel, self)
        with _installed(self.finder):
            modules = {n: importlib.import_module(n) for n in REAL if self.finder.has(n)}
        self.utils = modules["vllm.v1.core.kv_cache_utils"]
        self.specs = modules["vllm.v1.kv_cache_interface"]
        self.planning = modules.get("vllm.v1.core.kv_cache_planning")
        layouts = modules.get("vllm.v1.kv_cache_layout")
        self.layout = layouts.KVCacheLayout.LBNHC if layouts else None
        if self.planning is not None:
            builder = self.planning.DefaultKVCacheConfigBuilder
            resolver = modules["vllm.v1.core.kv_cache_config_builder"]
            vars(resolver)["get_kv_cache_config_builder"] = lambda _config: builder()
        if "vllm.v1.kv_cache_spec_registry" in modules:
            self._register(modules["vllm.v1.kv_cache_spec_registry"].KVCacheSpecRegistry)

    def _register(self, registry: Any) -> None:
        """What single_type_kv_cache_manager registers, without its managers."""
        full = self.specs.FullAttentionSpec
        own = (full, self.specs.SlidingWindowSpec, self.specs.ChunkedLocalAttentionSpec)
        for spec in own:
            registry.register(spec, object, uniform_type_base_spec=spec)
        registry.register(self.specs.MLAAttentionSpec, object, uniform_type_base_spec=full)

    def log(self, message: str, *values: Any, **_: Any) -> None:
        self.lines.append(message % values if values else message)

    def answer(self, model: Model, ask: Mapping[str, Any]) -> Answer:
        stages = stage_layers(len(model.layers), ask["pipeline"])
        workers = [{f"layer.{i}": self._spec(model, i, ask) for i in stage} for stage in stages]
        self.lines.clear()
        try:
            with _installed(self.finder):
                found = self._configs(_config(ask), workers, [ask["available"]] * len(workers))
        except ValueError:
            return Answer(False, 0, [], [])
        sizes = [len(group.layer_names) for group in found[0].kv_cache_groups]
        return Answer(True, found[0].num_blocks, sizes, list(self.lines))

    def _configs(self, config: Any, workers: list[Any], available: list[int]) -> Any:
        config.cache_config.get_resolved_kv_cache_layout = lambda: self.layout
        if self.planning is None:
            found = self.utils.get_kv_cache_configs(config, workers, available)
        else:
            groups = self.planning.get_global_kv_cache_groups(config, workers)
            found = self.planning.get_kv_cache_configs(config, workers, available, groups)
        # Newer releases log later, from the configuration that was chosen.
        if report := vars(self.utils).get("update_kv_cache_capacity"):
            report(config, found[0])
        return found

    def _spec(self, model: Model, index: int, ask: Mapping[str, Any]) -> Any:
        attention, reach = model.layers[index].attention, model.layers[index].attention.reach
        common = {"block_size": ask["block"], "dtype": ask["dtype"]}
        if attention.latent:
            return self.specs.MLAAttentionSpec(
                **common, num_kv_heads=1, head_size=attention.cached_elements
            )
        heads = max(1, attention.kv_heads // ask["tensor"])
        common |= {"num_kv_heads": heads, "head_size": attention.key_size}
        if reach.kind == "sliding":
            return self.specs.SlidingWindowSpec(**common, sliding_window=reach.tokens)
        if reach.kind == "chunked":
            return self.specs.ChunkedLocalAttentionSpec(**common, attention_chunk_size=reach.tokens)
        return self.specs.FullAttentionSpec(**common)


class _Finder:
    """Real source for the arithmetic, stand-ins for everything else of vllm and torch."""

    def __init__(self, wheel: Path, oracle: Oracle) -> None:
        self.archive = zipfile.ZipFile(wheel)
        self.names = set(self.archive.namelist())
        self.oracle = oracle
        self.loaded: dict[str, types.ModuleType] = {}

    def has(self, name: str) -> bool:
        return name.replace(".", "/") + ".py" in self.names

    def find_spec(self, name: str, _path: Any, _target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self) if _is_stubbed(name) else None

    def create_module(self, spec: Any) -> types.ModuleType:
        return types.ModuleType(spec.name) if spec.name in REAL else StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if name in REAL:
            source = self.archive.read(name.replace(".", "/") + ".py")
            exec(compile(source, name, "exec"), module.__dict__)  # noqa: S102 - the engine's own
        constants: dict[str, Any] = {
            "get_dtype_size": DTYPE_BYTES.__getitem__,
            "GiB_bytes": 2**30,
            "format_gib": str,
            "init_logger": lambda _name: _Logger(self.oracle),
        }
        if isinstance(module, StandIn):
            module.__dict__.update(constants, __path__=[])


@contextmanager
def _installed(finder: _Finder) -> Iterator[None]:
    """The stand-ins take the place of any real torch or vllm, for this long only."""
    before = {name: module for name, module in sys.modules.items() if _is_stubbed(name)}
    for name in before:
        del sys.modules[name]
    sys.modules.update(finder.loaded)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.loaded = {
            name: sys.modules.pop(name) for name in list(sys.modules) if _is_stubbed(name)
        }
        sys.modules.update(before)


class _Logger:
    def __init__(self, oracle: Oracle) -> None:
        self.info_once = self.info = oracle.log

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_options: None


def _is_stubbed(name: str) -> bool:
    return name.partition(".")[0] in ("vllm", "torch")


class Space(types.SimpleNamespace):
    """A configuration whose unset parts are None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def _config(ask: Mapping[str, Any]) -> Space:
    return Space(
        model_config=Space(max_model_len=ask["tokens"], original_max_model_len=ask["tokens"]),
        scheduler_config=Space(
            max_num_batched_tokens=ask["batched"],
            disable_hybrid_kv_cache_manager=not ask["hybrid"],
        ),
        parallel_config=Space(
            tensor_parallel_size=ask["tensor"],
            decode_context_parallel_size=ask["context"],
            prefill_context_parallel_size=1,
        ),
        cache_config=Space(),
        attention_config=Space(),
        device_config=Space(device_type="cuda"),
        # Asynchronous scheduling, the newer releases' default, keeps two batches in flight.
        max_in_flight_tokens=2 * ask["batched"],
        num_prefill_lookahead_tokens=0,
    )


@pytest.fixture(scope="module", params=VERSIONS)
def oracle(request: pytest.FixtureRequest) -> tuple[str, Oracle]:
    found = sorted(Path(FOLDER).glob(f"vllm*-{request.param}-*.whl")) if FOLDER else []
    if not found:
        pytest.skip(f"no vllm-{request.param} wheel in LEADLINE_ORACLE_WHEELS")
    return request.param, Oracle(found[0])


def compare(version: str, oracle: Oracle, model: Model, ask: Mapping[str, Any]) -> None:
    theirs = oracle.answer(model, ask)
    ours = plan_pool(
        model,
        Shards(ask["tensor"], ask["pipeline"]),
        PoolSettings(
            ask["tokens"],
            ask["batched"],
            block_tokens=ask["block"],
            element_bytes=DTYPE_BYTES[ask["dtype"]],
            hybrid=ask["hybrid"],
            context_ranks=ask["context"],
        ),
        find_vllm_release(version),
        [ask["available"]] * ask["pipeline"],
    )
    assert ours.starts == theirs.starts
    if theirs.starts:
        first = stage_layers(len(model.layers), ask["pipeline"])[0]
        sizes = [sum(index in first for index in group.layers) for group in ours.groups]
        assert ours.blocks == theirs.blocks
        assert sizes == theirs.groups
        text = "\n".join(theirs.lines)
        assert f"GPU KV cache size: {ours.capacity_tokens:,} tokens" in text
        assert f"per request: {ours.concurrency:.2f}x" in text


def test_every_catalog_model(oracle: tuple[str, Oracle]) -> None:
    version, code = oracle
    for name in model_names():
        for hybrid in (True, False):
            ask = {
                "tokens": 131_072,
                "batched": 8192,
                "block": 16,
                "dtype": "bfloat16",
                "available": 40 * 2**30,
                "tensor": 1,
                "pipeline": 1,
                "context": 1,
                "hybrid": hybrid,
            }
            compare(version, code, load_model(name), ask)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(model_names()),
    tokens=st.integers(1, 2**24),
    batched=st.sampled_from([512, 2048, 8192, 16384, 131_072]),
    block=st.sampled_from([16, 32, 64, 128]),
    dtype=st.sampled_from(sorted(DTYPE_BYTES)),
    available=st.integers(2**24, 2**38),
    tensor=st.sampled_from([1, 2, 4, 8, 16]),
    pipeline=st.sampled_from([1, 2, 3, 4]),
    context=st.sampled_from([1, 1, 2, 8]),
    hybrid=st.booleans(),
)
def test_any_settings(oracle: tuple[str, Oracle], name: str, **ask: Any) -> None:
    version, code = oracle
    model = load_model(name)
    local = any(reach.kind != "full" for reach in model.reaches)
    # Context parallelism is not defined for windows; stages need layers of every group.
    ask["context"] = 1 if local else ask["context"]
    compare(version, code, model, ask)
