"""A warm study: what the prefix cache should have found, beside what it did find.

Engines say so of each request; one that does not may still count it over the whole load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from leadline.engines.engine import Engine
from leadline.prove.structural import cached_tokens
from leadline.records import Record
from leadline.units import show_tokens


class CacheUse(BaseModel):
    """Of answered requests whose prompts share text on purpose."""

    model_config = ConfigDict(frozen=True)

    requests: int
    prompt_tokens: int
    expected_tokens: int
    """The least that the cache has to find: whole blocks of what was surely sent before."""
    most_tokens: int
    """With what prompts share by chance, had it been sent before."""
    replayed_tokens: int | None = None
    """What a cache that forgets nothing would find of a replayed trace; see ``Sent``."""
    cached_tokens: int | None
    """As the server says; ``None``: it does not."""
    witness: Literal["each request", "the server's counters", "nobody"]
    differing: int
    """Requests of which it found less or more than that, where it says so of each."""
    example: str = ""

    @property
    def expected_rate(self) -> float:
        return self.expected_tokens / self.prompt_tokens

    @property
    def replayed_rate(self) -> float | None:
        return None if self.replayed_tokens is None else self.replayed_tokens / self.prompt_tokens

    @property
    def rate(self) -> float | None:
        return None if self.cached_tokens is None else self.cached_tokens / self.prompt_tokens

    @property
    def is_as_asked(self) -> bool:
        """Of each request where the server tells, else of all together."""
        if self.cached_tokens is None or self.differing:
            return False
        return self.expected_tokens <= self.cached_tokens <= self.most_tokens


def judge_cache(
    records: Sequence[Record], engine: Engine, grown: Mapping[str, float]
) -> CacheUse | None:
    """``grown``: the server's counters over the load. ``None`` where nothing was to be shared."""
    asked = [
        (record, record.sent.cached_tokens)
        for record in records
        if record.sent.cached_tokens is not None and record.exchange.failure is None
    ]
    if not asked:
        return None
    said = [_said(record, engine) for record, _ in asked]
    prompt_tokens = sum(record.sent.input_tokens for record, _ in asked)
    facts = {
        "requests": len(asked),
        "prompt_tokens": prompt_tokens,
        "expected_tokens": sum(least for _, (least, _) in asked),
        "most_tokens": sum(most for _, (_, most) in asked),
        "replayed_tokens": _replayed([record for record, _ in asked]),
    }
    if any(tokens is not None for tokens in said):
        found = [tokens or 0 for tokens in said]  # vLLM leaves a zero out
        wrong = [
            f"request {record.trial}: {show_tokens(tokens)} of {show_tokens(least)} tokens cached"
            for (record, (least, most)), tokens in zip(asked, found, strict=True)
            if not least <= tokens <= most
        ]
        return CacheUse(
            **facts,
            cached_tokens=sum(found),
            witness="each request",
            differing=len(wrong),
            example=wrong[0] if wrong else "",
        )
    # Counters are everybody's: they testify only if these requests alone moved them.
    alone = grown.get("prompt_tokens") == prompt_tokens and "cached_tokens" in grown
    return CacheUse(
        **facts,
        cached_tokens=int(grown["cached_tokens"]) if alone else None,
        witness="the server's counters" if alone else "nobody",
        differing=0,
    )


def _replayed(records: Sequence[Record]) -> int | None:
    found = [record.sent.replayed_tokens for record in records]
    return None if None in found else sum(tokens or 0 for tokens in found)


def _said(record: Record, engine: Engine) -> int | None:
    return max(cached_tokens(record, engine).values(), default=None)
