from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.prompts.corpora_for_tests import prepared

from leadline.errors import SpecError
from leadline.prompts.sessions import draw_sessions
from leadline.prompts.shared import expect_hits


@pytest.mark.parametrize("needles", [0, 2])
def test_every_turn_is_the_one_before_it_and_fresh_text(needles: int) -> None:
    corpus, tokenizer = prepared("llama3")
    lengths = [[500, 900, 2000], [300], [800, 1500]]
    sessions = draw_sessions(corpus, tokenizer.encode, lengths, "s", needles)
    assert [[len(turn) for turn in turns] for turns in sessions] == lengths
    for turns in sessions:
        ids = [np.asarray(turn.as_ids().ids) for turn in turns]
        for before, after in itertools.pairwise(ids):
            assert after[: len(before)].tolist() == before.tolist()
        for turn, expected in zip(turns, ids, strict=True):
            prompt = turn.as_text(tokenizer.encode)
            assert prompt is not None
            assert prompt.text is not None
            assert tokenizer.encode(prompt.text) == expected.tolist()
    first = [turns[0].as_ids().ids for turns in sessions]
    assert expect_hits(first, 16).cached_tokens == (0, 0, 0)


def test_a_turn_asks_for_its_own_needles_under_new_names() -> None:
    corpus, tokenizer = prepared("gpt2")
    ((first, second),) = draw_sessions(corpus, tokenizer.encode, [[600, 1500]], "s", needles=2)
    asked = [turn.as_ids().needles for turn in (first, second)]
    assert all(needle.depth_tokens < 600 for needle in asked[0])
    assert all(600 < needle.depth_tokens < 1500 for needle in asked[1])
    prompt = second.as_text(tokenizer.encode)
    assert prompt is not None
    assert prompt.text is not None
    assert prompt.text.count("for leadline, harbour mentioned") == 1
    assert prompt.text.endswith(
        "for anchor, lantern mentioned in the provided text are, in this order:"
    )
    for needle in asked[1]:
        after = tokenizer.huggingface.decode(np.asarray(prompt.ids)[needle.depth_tokens :].tolist())
        assert after.partition(" is: ")[2].startswith(f"{needle.answer}.\n")


def test_turns_that_do_not_grow_are_refused() -> None:
    corpus, tokenizer = prepared("gpt2")
    with pytest.raises(SpecError, match="no longer than the one before it: 500, 500 tokens"):
        draw_sessions(corpus, tokenizer.encode, [[500, 500]], "s")
