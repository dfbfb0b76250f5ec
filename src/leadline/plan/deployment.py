"""One deployment, one answer: ``plan_deployment`` reads every option and returns the ``Plan``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from leadline.errors import PlanError
from leadline.plan.architecture import DTYPE_BYTES, Model, load_model
from leadline.plan.hardware import Hardware, parse_hardware
from leadline.plan.neuron_plan import plan_neuron
from leadline.plan.options import read_numbers, spell
from leadline.plan.quantization import ONLINE
from leadline.plan.request import Request
from leadline.plan.roofline import Probe
from leadline.plan.schema import Plan
from leadline.plan.sglang_plan import plan_sglang
from leadline.plan.vllm import Measured
from leadline.plan.vllm_plan import plan_vllm
from leadline.units import GIB, parse_tokens

DEFAULT_OUTPUT_TOKENS = 200
"""Of both kits' tests."""

_PLANNERS = {"vllm": plan_vllm, "sglang": plan_sglang, "neuron": plan_neuron}
_LENGTH_FLAGS = {"vllm": "max_model_len", "sglang": "context_length", "neuron": "max_model_len"}


def plan_deployment(
    model: str | Path | Model,
    hardware: str | Hardware,
    engine: str,
    *,
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    max_model_len: int | str | None = None,
    input_tokens: int | str | None = None,
    output_tokens: int | str = DEFAULT_OUTPUT_TOKENS,
    cached_tokens: int = 0,
    available_kv_gib: float | None = None,
    weights_gib: float | None = None,
    free_gib: float | None = None,
    probes: Sequence[tuple[int, float]] = (),
    measured_prefill_s: float | None = None,
) -> Plan:
    """Plan one engine instance.

    ``engine`` is ``vllm==0.12.0``, ``sglang==0.5.6`` or ``neuron==0.4.1`` (the plugin's version, or
    vLLM's); ``settings`` are its own options;
    ``input_tokens`` None or "max" plans the longest prompt; ``available_kv_gib`` and
    ``weights_gib`` are per device, from the engine's log; ``free_gib`` is what other processes
    leave of a device; ``probes`` are cold prefills of this deployment, (tokens, seconds);
    ``measured_prefill_s`` is a reported time to be audited.
    """
    name, version = parse_engine(engine)
    devices = parse_hardware(hardware) if isinstance(hardware, str) else hardware
    _refuse_mismatch(name, devices)
    found = model if isinstance(model, Model) else load_model(model)
    given = dict(settings or {})
    if max_model_len is not None:
        given[_LENGTH_FLAGS[name]] = max_model_len
    given = read_numbers(given, name)
    longest = input_tokens is None or input_tokens == "max"
    request = Request(
        input_tokens=0 if longest or input_tokens is None else parse_tokens(input_tokens),
        output_tokens=parse_tokens(output_tokens),
        cached_tokens=cached_tokens,
        probes=tuple(Probe(*probe) for probe in probes),
        measured_prefill_s=measured_prefill_s,
    )
    known = Measured(
        weights_bytes=None if weights_gib is None else int(weights_gib * GIB),
        available_bytes=None if available_kv_gib is None else int(available_kv_gib * GIB),
        free_bytes=None if free_gib is None else int(free_gib * GIB),
    )
    shaped = apply_dtype(found, given)
    return _PLANNERS[name](
        shaped, devices, version, given=given, env=dict(env or {}), request=request, known=known
    )


def parse_engine(engine: str) -> tuple[str, str]:
    """``("vllm", "0.12.0")``. The version decides the arithmetic, so it must be given."""
    name, _, version = engine.partition("==")
    if name not in _PLANNERS or not version:
        raise PlanError(
            f"{engine!r} is not an engine with its version",
            where="engine",
            cure="write vllm==0.12.0, sglang==0.5.6.post2 or neuron==0.4.1; known: "
            + ", ".join(_PLANNERS),
        )
    return name, version


def _refuse_mismatch(name: str, hardware: Hardware) -> None:
    if name != "neuron" and hardware.device.vendor == "neuron":
        raise PlanError(
            f"{name} on {hardware.device.name} is vLLM on Neuron, which has versions of its own",
            where="engine",
            cure="write neuron==0.4.1 (the plugin's version, or vLLM's)",
        )


def apply_dtype(model: Model, settings: Mapping[str, Any]) -> Model:
    """The model as the engine will hold it: ``dtype`` and quantisation while loading."""
    spelled = {spell(key): value for key, value in settings.items()}
    asked = str(spelled.get("dtype") or "auto")
    dtype = {"half": "float16", "float": "float32"}.get(asked, asked)
    if dtype != "auto":
        if dtype not in DTYPE_BYTES:
            raise PlanError(
                f"dtype {dtype!r} has no known size",
                where="settings",
                cure="known: auto, " + ", ".join(DTYPE_BYTES),
            )
        model = replace(model, dtype=dtype)
    online = ONLINE.get(str(spelled.get("quantization")))
    return replace(model, quantization=online) if online and not model.quantization else model
