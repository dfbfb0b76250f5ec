"""Chats of several turns and of a trace: exact through the template, each with what came before."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prompts.corpora_for_tests import prepared
from tests.prompts.test_chat import PLAIN, TRIMMING, make
from tests.prompts.test_replay import days, hits_by_hash

from leadline.errors import SpecError
from leadline.prompts.chat import ChatSlice, ChatTemplate
from leadline.prompts.dialogs import DialogTurn, draw_dialogs, draw_replay_chats
from leadline.prompts.prompt import as_messages
from leadline.prompts.shared import expect_hits
from leadline.prompts.trace import TraceLine

THINKING = PLAIN.replace(
    "{{ message['content'] }}",
    "{% if message['role'] == 'assistant' %}<think></think>{% endif %}{{ message['content'] }}",
)


def ids_of(drawn: ChatSlice, template: ChatTemplate, kind: str = "llama3") -> list[int]:
    """As the server finds them: of the messages, by the Hugging Face tokenizer."""
    _, tokenizer = prepared(kind)
    chat = drawn.as_chat(tokenizer.encode)
    assert chat is not None
    rendered = template.render(as_messages(chat.content, chat.history))
    ids: list[int] = tokenizer.huggingface.encode(rendered, add_special_tokens=False).ids
    assert ids == np.asarray(chat.prompt.ids).tolist()
    return ids


@pytest.mark.parametrize("source", [PLAIN, TRIMMING])
@settings(max_examples=25)
@given(
    added=st.lists(st.integers(160, 900), min_size=1, max_size=4),
    answer=st.integers(1, 120),
    seed=st.text("ab"),
)
def test_every_turn_is_exact_and_begins_with_the_one_before_it(
    source: str, added: list[int], answer: int, seed: str
) -> None:
    corpus, tokenizer = prepared("llama3")
    template, lengths = make(source), list(itertools.accumulate(added))
    turns = [DialogTurn(tokens, answer) for tokens in lengths]
    both = draw_dialogs(corpus, tokenizer.encode, template, [turns, turns], seed)
    found = [[ids_of(turn, template) for turn in dialog] for dialog in both]
    assert [[len(ids) for ids in dialog] for dialog in found] == [lengths, lengths]
    for dialog in found:
        for before, after in itertools.pairwise(dialog):
            assert after[: len(before)] == before
    assert max(expect_hits([dialog[0] for dialog in found], 16).cached_tokens) <= 16


def test_what_stands_for_an_answer_is_as_long_as_it() -> None:
    corpus, tokenizer = prepared("llama3")
    turns = [DialogTurn(300, 50), DialogTurn(700, 50)]
    ((_, second),) = draw_dialogs(corpus, tokenizer.encode, make(PLAIN), [turns], "s")
    chat = second.as_chat(tokenizer.encode)
    assert chat is not None
    assert len(chat.history) == 2
    assert len(tokenizer.encode(chat.history[1])) == 50


def test_a_turn_without_room_for_the_answer_before_it_says_how_much_it_adds() -> None:
    corpus, tokenizer = prepared("llama3")
    turns = [DialogTurn(300, 200), DialogTurn(400, 200)]
    with pytest.raises(SpecError, match=r"adds 100 tokens has no room .* after an answer of 200"):
        draw_dialogs(corpus, tokenizer.encode, make(PLAIN), [turns], "s")


@pytest.mark.parametrize("source", [THINKING, "{{ messages[-1]['content'] }}|"])
def test_a_template_that_rewrites_what_was_said_is_refused(source: str) -> None:
    corpus, tokenizer = prepared("llama3")
    turns = [DialogTurn(300, 5), DialogTurn(700, 5)]
    with pytest.raises(SpecError, match="otherwise once an answer follows it"):
        draw_dialogs(corpus, tokenizer.encode, make(source), [turns], "s")


@pytest.mark.parametrize("kind", ["llama3", "bytes"])
@settings(max_examples=40)
@given(lines=days(256))
def test_the_blocks_of_a_trace_stay_where_they_were_in_chat(
    kind: str, lines: list[TraceLine]
) -> None:
    corpus, tokenizer = prepared(kind)
    lines = [line for line in lines if line.input_tokens > 128]
    template = make(PLAIN)
    drawn, _ = draw_replay_chats(corpus, tokenizer.encode, template, lines, 256, "s")
    prompts = [ids_of(item, template, kind) for item in drawn]
    assert [len(ids) for ids in prompts] == [line.input_tokens for line in lines]
    cached = expect_hits(prompts, 64).cached_tokens
    for hit, best in zip(cached, hits_by_hash(lines, 256), strict=True):
        # The last tokens of either are its own and the template's; all begin with its first.
        assert best - 192 <= hit <= best + 256


def test_a_request_of_a_trace_that_is_shorter_than_its_template_is_refused() -> None:
    corpus, tokenizer = prepared("llama3")
    with pytest.raises(SpecError, match="a prompt of 9 tokens has no room for text"):
        draw_replay_chats(corpus, tokenizer.encode, make(PLAIN), [TraceLine(0, 9, 1)], 512, "s")
