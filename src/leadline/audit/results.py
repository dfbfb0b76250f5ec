"""Result files of other people's clients, read as claims.

Which file is whose is told by its keys; what each calls a number is a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import orjson

from leadline.audit.claims import Claim, Claims
from leadline.engines.engine import pick
from leadline.errors import SpecError


@dataclass(frozen=True)
class Format:
    """One client's result file. Paths are dotted; several are tried in order."""

    tool: str
    signature: tuple[str, ...]
    """Paths that must be there."""
    root: str = ""
    """Where the runs lie if one file holds several."""
    requests: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    asked_input: tuple[str, ...] = ()
    asked_output: tuple[str, ...] = ()
    mean_input: tuple[str, ...] = ()
    mean_output: tuple[str, ...] = ()
    fastest_ttft_ms: tuple[str, ...] = ()
    ttft_factor_ms: float = 1.0
    itl_p99: tuple[str, ...] = ()
    itl_factor_ms: float = 1.0
    itl_is_request_mean: bool = False


FORMATS: Sequence[Format] = (
    Format(
        tool="guidellm",
        signature=("benchmarks.0.metrics",),
        root="benchmarks",
        requests=("metrics.request_totals.successful", "run_stats.requests_made.successful"),
        failed=("metrics.request_totals.errored", "run_stats.requests_made.errored"),
        mean_input=("metrics.prompt_token_count.successful.mean",),
        mean_output=("metrics.output_token_count.successful.mean",),
        fastest_ttft_ms=("metrics.time_to_first_token_ms.successful.min",),
        itl_p99=("metrics.inter_token_latency_ms.successful.percentiles.p99",),
        itl_is_request_mean=True,
    ),
    Format(
        tool="aiperf",
        signature=("request_latency.avg", "time_to_first_token"),
        requests=("request_count.avg",),
        failed=("error_request_count.avg",),
        mean_input=("input_sequence_length.avg",),
        mean_output=("output_sequence_length.avg",),
        asked_input=("input_config.input.prompt.input_tokens.mean",),
        asked_output=("input_config.input.prompt.output_tokens.mean",),
        fastest_ttft_ms=("time_to_first_token.min",),
        itl_p99=("inter_token_latency.p99",),
        itl_is_request_mean=True,
    ),
    Format(
        tool="inference-perf",
        signature=("successes.latency", "failures"),
        requests=("successes.count",),
        failed=("failures.count",),
        mean_input=("successes.prompt_len.mean",),
        mean_output=("successes.output_len.mean",),
        fastest_ttft_ms=("successes.latency.time_to_first_token.min",),
        ttft_factor_ms=1e3,
        itl_p99=("successes.latency.inter_token_latency.p99",),
        itl_factor_ms=1e3,
    ),
    Format(
        tool="SGLang's bench_serving",
        signature=("completed", "mean_ttft_ms", "dataset_name"),
        requests=("completed",),
        failed=("failed",),
        asked_input=("random_input_len",),
        asked_output=("random_output_len",),
        itl_p99=("p99_itl_ms",),
    ),
    Format(
        tool="vllm bench serve",
        signature=("completed", "mean_ttft_ms"),
        requests=("completed",),
        failed=("failed",),
        itl_p99=("p99_itl_ms",),
    ),
)


def read_results(path: Path, model: str | None, hardware: str | None) -> Claims:
    """The runs of one result file as claims, with the model and the hardware they were made on.

    ``SpecError`` for a file of no client that is known here.
    """
    document = _last_document(path)
    for form in FORMATS:
        if all(pick(document, part) is not None for part in form.signature):
            runs = pick(document, form.root) if form.root else [document]
            claims = [_claim(form, run, number) for number, run in enumerate(runs, 1)]
            return Claims(
                source=str(path),
                tool=form.tool,
                model=model,
                hardware=hardware,
                claims=tuple(claims),
            )
    raise SpecError(
        "not a result file of a client that is known here",
        where=str(path),
        cure=f"known: {', '.join(form.tool for form in FORMATS)}; or write claims in YAML",
    )


def _last_document(path: Path) -> Any:
    """A JSON document, or the last line of JSON lines."""
    try:
        text = path.read_bytes()
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return orjson.loads(text.strip().splitlines()[-1])
    except (OSError, orjson.JSONDecodeError, IndexError) as error:
        raise SpecError(
            f"cannot be read as JSON: {error}", where=str(path), cure="give a client's result file"
        ) from error


def _claim(form: Format, run: Mapping[str, Any], number: int) -> Claim:
    mean_input = _number(run, form.mean_input) or _mean(run.get("input_lens"))
    ttft_ms = _number(run, form.fastest_ttft_ms) or _fastest_ms(run.get("ttfts"))
    itl = _number(run, form.itl_p99)
    return Claim(
        name=f"{form.tool} run {number}",
        input_tokens=round(mean_input) if mean_input else None,
        ttft_s=ttft_ms * form.ttft_factor_ms / 1e3 if ttft_ms else None,
        requests=_whole(_number(run, form.requests)),
        failed=_whole(_number(run, form.failed)),
        asked_input_tokens=_whole(_number(run, form.asked_input)),
        asked_output_tokens=_whole(_number(run, form.asked_output)),
        mean_input_tokens=mean_input,
        mean_output_tokens=_number(run, form.mean_output) or _mean(run.get("output_lens")),
        itl_p99_ms=itl * form.itl_factor_ms if itl else None,
        itl_is_request_mean=form.itl_is_request_mean,
    )


def _number(run: Mapping[str, Any], paths: Sequence[str]) -> float | None:
    found = (pick(run, path) for path in paths)
    return next((float(value) for value in found if isinstance(value, int | float)), None)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _mean(values: Sequence[float] | None) -> float | None:
    return fmean(values) if values else None


def _fastest_ms(seconds: Sequence[float] | None) -> float | None:
    answered = [value for value in seconds or () if value > 0]
    return min(answered) * 1e3 if answered else None
