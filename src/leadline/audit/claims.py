"""What somebody says of a deployment: numbers with their circumstances, from a small YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from leadline.errors import SpecError
from leadline.units import parse_tokens

Tokens = Annotated[int, BeforeValidator(parse_tokens)]
Evidence = Literal["status", "length", "answer"]
"""``status``: HTTP 200; ``length``: the server's own count; ``answer``: something asked for."""


class Claims(BaseModel):
    """One report. ``SpecError`` with the field where a file does not fit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """Where the numbers stand."""
    tool: str = ""
    """The client that measured them, where a result file tells."""
    model: str | None = None
    hardware: str | None = None
    versions: Mapping[str, str] = {}
    """Of the Neuron packages: sdk, vllm, plugin, neuronx_cc, nxdi."""
    claims: tuple[Claim, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


class Claim(BaseModel):
    """One run or one statement; whatever is left out is not judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    engine: str | None = None
    """With its version: its limits and its memory follow from it."""
    settings: Mapping[str, JsonValue] = {}
    env: Mapping[str, str] = {}

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    counted_by: Literal["server", "client"] | None = None
    accepted: bool | None = None
    """Whether the server is said to have answered a prompt of that length."""
    over_window_percent: float | None = None
    """How far the prompt is said to lie above the window."""

    response_s: float | None = None
    """The whole answer: prefill and decode."""
    ttft_s: float | None = None
    log_prompt_tokens_per_s: float | None = None
    """Read off the engine's log line."""
    log_generation_tokens_per_s: float | None = None
    prompt_tokens_per_s: float | None = None
    cold: bool | None = None
    cache_hit_share: Annotated[float, Field(ge=0, le=1)] | None = None
    repeats: int | None = None
    evidence: tuple[Evidence, ...] | None = None
    """What is offered as proof that the prompt was read."""

    kv_tokens: Tokens | None = None
    """The engine's own figure for its cache."""
    max_concurrency: float | None = None
    request_tokens: Tokens | None = None
    """The longest single request that is said to be possible."""
    all_devices_tokens: Tokens | None = None
    """Capacity that is said to hold for all devices together."""
    weights_gb_per_device: float | None = None
    device_gb: float | None = None
    corpus_bytes: int | None = None
    corpus_bytes_per_token: float | None = None

    requests: int | None = None
    failed: int | None = None
    asked_input_tokens: int | None = None
    asked_output_tokens: int | None = None
    mean_input_tokens: float | None = None
    mean_output_tokens: float | None = None
    itl_p99_ms: float | None = None
    itl_is_request_mean: bool = False
    """Some clients average the gaps of each request before they take percentiles."""


class Comparison(BaseModel):
    """``faster`` is said to be ``ratio`` times as fast as ``slower``; both name claims."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    faster: str
    slower: str
    ratio: float


def read_claims(path: Path) -> Claims:
    """A YAML file of claims. ``SpecError`` says where it does not fit."""
    try:
        tree: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise SpecError(
            f"cannot be read: {error}", where=str(path), cure="give a YAML file of claims"
        ) from error
    try:
        return Claims.model_validate(tree)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "file"
        raise SpecError(
            f"{field}: {problem['msg']}",
            where=str(path),
            cure=f"fields of a claim: {', '.join(Claim.model_fields)}",
        ) from error
