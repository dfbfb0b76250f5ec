"""What one look at a service comes to."""

from __future__ import annotations

import pytest

from leadline.campaign.status import Look, share_cached
from leadline.deploy.standing import Standing

STANDING = Standing(name="x", owner="up", state="running", url=None, image="")


@pytest.mark.parametrize(
    ("engine", "counters", "share"),
    [
        # It counts the prompt tokens that it computed, and apart from them those it did not.
        ("llamacpp", {"prompt_tokens": 25.0, "cached_tokens": 75.0}, 0.75),
        ("sglang", {"prompt_tokens": 100.0, "cached_tokens": 75.0}, 0.75),
        ("vllm", {"prompt_tokens": 9.0, "queried_tokens": 100.0, "cached_tokens": 75.0}, 0.75),
        ("vllm", {"prompt_tokens": 100.0}, None),
        ("llamacpp", {"prompt_tokens": 0.0, "cached_tokens": 0.0}, None),
    ],
)
def test_the_share_of_prompt_tokens_from_the_cache(
    engine: str, counters: dict[str, float], share: float | None
) -> None:
    assert share_cached(Look(0.0, STANDING, "ready", engine, {}, counters)) == share
