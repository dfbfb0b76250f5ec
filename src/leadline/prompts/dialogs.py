"""Chats of several turns, and the chats of a recorded trace: exact with the template in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from operator import add
from typing import NamedTuple

from leadline.errors import SpecError
from leadline.prompts.chat import ChatSlice, ChatTemplate, frame, frame_turns, open_message
from leadline.prompts.disjoint import place_disjoint
from leadline.prompts.replay import draw_replay
from leadline.prompts.sessions import fresh_tokens
from leadline.prompts.slices import Added, EncodeNow, Slice, Span, write_recipe
from leadline.prompts.token_corpus import TokenCorpus
from leadline.prompts.trace import TraceLine
from leadline.units import show_tokens


class DialogTurn(NamedTuple):
    tokens: int
    """Of the whole prompt: template, BOS and all that was said before."""
    output_tokens: int
    """Of its answer. Text of the corpus, as long as that, stands in for it in the next prompt: the
    real one is not known when prompts are drawn."""


def draw_dialogs(
    corpus: TokenCorpus,
    encode: EncodeNow,
    template: ChatTemplate,
    dialogs: Sequence[Sequence[DialogTurn]],
    seed: str,
) -> list[list[ChatSlice]]:
    """Each turn's prompt begins with the whole prompt of the turn before it.

    ``encode`` has to know the special tokens, as that of ``LocalTokenizer`` does. ``SpecError``
    when a turn has no room for the answer before it, the corpus is too short (text is never
    repeated), or the template renders a message otherwise once it is answered.
    """
    before, after, between = frame_turns(template)
    heads = _Heads(*(open_message(opening, encode) for opening in (before, "", between)))
    written = [list(_write(turns, heads, Added(after, encode(after)))) for turns in dialogs]
    recipes = [
        write_recipe(encode, part.hay_tokens, f"{seed}/{number}", 0)
        for number, part in enumerate(chain.from_iterable(chain.from_iterable(written)))
    ]
    placed = iter(place_disjoint(corpus, recipes, seed))
    return [
        [
            ChatSlice(template, said, (before, *(after, between) * number, after))
            for number, said in enumerate(_say(corpus, turns, placed))
        ]
        for turns in written
    ]


class _Heads(NamedTuple):
    """How a message begins: the first, an answer, and what the user says to it."""

    first: Added
    answer: Added
    reply: Added


class _Message(NamedTuple):
    head: Added
    hay_tokens: int
    tail: tuple[Added, ...] = ()


def _write(
    turns: Sequence[DialogTurn], heads: _Heads, tail: Added
) -> Iterator[tuple[_Message, ...]]:
    """What each turn adds."""
    first, *fresh = fresh_tokens([turn.tokens for turn in turns])
    yield (_message(heads.first, first, tail, 0),)
    for turn, tokens in zip(turns, fresh, strict=False):
        answer = max(turn.output_tokens, len(heads.answer.ids) + 1)
        said = _Message(heads.answer, answer - len(heads.answer.ids))
        yield said, _message(heads.reply, tokens, tail, answer)


def _message(head: Added, tokens: int, tail: Added, answer_tokens: int) -> _Message:
    framing = len(head.ids) + len(tail.ids)
    if (hay_tokens := tokens - answer_tokens - framing) < 1:
        answer = f" after an answer of {show_tokens(answer_tokens)}" if answer_tokens else ""
        raise SpecError(
            f"a turn that adds {show_tokens(tokens)} tokens has no room for a message{answer}: the "
            f"chat template takes {framing}",
            where="workload.input_tokens",
            cure="ask for longer prompts, shorter answers or fewer turns",
        )
    return _Message(head, hay_tokens, (tail,))


def _say(
    corpus: TokenCorpus, turns: Sequence[Sequence[_Message]], placed: Iterator[Slice]
) -> Iterator[Slice]:
    """The whole prompt of each turn."""
    return accumulate((Slice(corpus, tuple(_pieces(parts, placed))) for parts in turns), add)


def _pieces(parts: Sequence[_Message], placed: Iterator[Slice]) -> Iterator[Span | Added]:
    for part in parts:
        yield part.head
        yield from next(placed).pieces
        yield from part.tail


def draw_replay_chats(
    corpus: TokenCorpus,
    encode: EncodeNow,
    template: ChatTemplate,
    lines: Sequence[TraceLine],
    block_tokens: int,
    seed: str,
) -> tuple[list[ChatSlice], bool]:
    """As ``draw_replay``, each prompt as one message; the template stands in its first block."""
    before, after = frame(template)
    head, tail = open_message(before, encode), Added(after, encode(after))
    around = {"before_tokens": len(head.ids), "after_tokens": len(tail.ids)}
    drawn, is_disjoint = draw_replay(
        corpus, encode, lines, block_tokens, seed, **around, as_text=True
    )
    start, end = Slice(corpus, (head,)), Slice(corpus, (tail,))
    whole = [ChatSlice(template, start + item + end, (before, after)) for item in drawn]
    return whole, is_disjoint
