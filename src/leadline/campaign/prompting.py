"""Exact prompts for one server: from the token corpus of a local tokenizer where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from leadline.campaign.serving import Served
from leadline.campaign.work import Work
from leadline.errors import EngineError, SpecError
from leadline.prompts.chat import (
    ChatSlice,
    ChatTemplate,
    draw_chats,
    find_chat_template,
    verify_against,
)
from leadline.prompts.corpus import Corpus
from leadline.prompts.disjoint import draw_disjoint
from leadline.prompts.haystack import CHARS_PER_TOKEN, LONGEST_LINE_CHARS, Prompt, build_prompt
from leadline.prompts.layout import lay_out
from leadline.prompts.slices import EncodeNow, Slice
from leadline.prompts.slices import draw_slice as draw_anywhere
from leadline.prompts.text import build_text_prompt
from leadline.prompts.token_corpus import TokenCorpus, UncuttableError, open_token_corpus
from leadline.prompts.tokenizer import LocalTokenizer
from leadline.records import Record
from leadline.spec import Api, PromptForm
from leadline.units import show_tokens

_ATTEMPTS = 8

Drawn = Slice | ChatSlice


class Way(NamedTuple):
    """How a prompt travels."""

    form: PromptForm
    api: Api = "openai"


@dataclass(frozen=True)
class Source:
    """A corpus that is tokenised here, and the template that is rendered here, if any."""

    corpus: TokenCorpus
    tokenizer: LocalTokenizer
    template: ChatTemplate | None

    @cached_property
    def encode(self) -> EncodeNow:
        return self.corpus.encoder(self.tokenizer)

    def draw(self, tokens: int, seed: str, needles: int) -> Drawn:
        if self.template is None:
            return draw_anywhere(self.corpus, self.encode, tokens, seed, needles)
        # The tokenizer itself knows the template's special tokens.
        encode = self.tokenizer.encode
        return draw_chats(self.corpus, encode, self.template, [tokens], seed, needles)[0]

    def draw_apart(self, lengths: Sequence[int], seed: str) -> Sequence[Drawn]:
        if self.template is None:
            return draw_disjoint(self.corpus, self.encode, lengths, seed, needles=0)
        encode = self.tokenizer.encode
        return draw_chats(self.corpus, encode, self.template, lengths, seed, needles=0)

    def word(self, drawn: Drawn, form: PromptForm) -> Prompt | None:
        """``None`` where the text cannot be shown to encode to the ids."""
        if isinstance(drawn, ChatSlice):
            chat = drawn.as_chat(self.tokenizer.encode)
            return chat and chat.sent
        return drawn.as_ids() if form == "ids" else drawn.as_text(self.encode)


@dataclass(frozen=True)
class PromptBuilder:
    """Builds for one start of one deployment."""

    work: Work
    served: Served
    deployment: str
    added_tokens: dict[Way, int] = field(default_factory=dict)
    """What the server adds to a prompt that travels so: a first token, or a chat template that is
    not known here. Learned from the first answer."""
    _strange: set[Way] = field(default_factory=set)
    """Its first answer has shown that the template known here is not the server's."""

    async def build(self, way: Way, corpus: Corpus, tokens: int, seed: str, needles: int) -> Prompt:
        """A prompt that the server should count as exactly ``tokens``."""
        source = await self.source(way, corpus)
        if source is None:
            return await self._count_out(way, corpus, tokens, seed, needles)
        inside = self.inside(way, tokens)
        for attempt in range(_ATTEMPTS if source.template else 1):
            place = f"{seed}/{attempt}" if attempt else seed
            if found := source.word(source.draw(inside, place, needles), way.form):
                return self.whole(way, found)
        if source.template is None:
            return await self._count_out(way, corpus, tokens, seed, needles)
        raise SpecError(
            f"no chat message provably has exactly {show_tokens(tokens)} tokens",
            where=corpus.source,
            cure="try another length, seed or corpus, or send token ids",
        )

    async def build_apart(
        self, way: Way, corpus: Corpus, lengths: Sequence[int], seed: str, cell: str
    ) -> list[Prompt]:
        """Prompts that share no text; a warning where the corpus is too short for that."""
        seeds = [f"{seed}/{number}" for number in range(1, len(lengths) + 1)]
        source = await self.source(way, corpus)
        if source is None:
            places = self._lay_out(corpus, lengths, seed, cell)
            return [
                await self._count_out(way, corpus, tokens, own, 0, near)
                for tokens, own, near in zip(lengths, seeds, places, strict=True)
            ]
        drawn: Sequence[Drawn] = ()
        try:
            drawn = source.draw_apart([self.inside(way, tokens) for tokens in lengths], seed)
        except SpecError:
            self._warn_of_overlap(lengths, cell)
        found = [source.word(item, way.form) for item in drawn] or [None] * len(lengths)
        return [
            self.whole(way, prompt) if prompt else await self.build(way, corpus, tokens, own, 0)
            for tokens, own, prompt in zip(lengths, seeds, found, strict=True)
        ]

    async def source(self, way: Way, corpus: Corpus) -> Source | None:
        """``None`` without a local tokenizer, and where prompts can only be found by counting."""
        tokenizer = self.served.encode
        if not isinstance(tokenizer, LocalTokenizer):
            return None
        template = self._template(way, tokenizer)
        with suppress(UncuttableError):
            return Source(await self._tokenised(corpus, tokenizer), tokenizer, template)
        return None

    def inside(self, way: Way, tokens: int) -> int:
        """What is left of ``tokens`` beside what the server adds."""
        return max(1, tokens - self.added_tokens.get(way, 0))

    def whole(self, way: Way, prompt: Prompt) -> Prompt:
        return replace(prompt, added_tokens=self.added_tokens.get(way, 0))

    def learn(self, way: Way, prompt: Prompt, record: Record) -> bool:
        """From the first answer; ``False`` if a prompt that travels so has to be built anew."""
        counted = (record.exchange.usage or {}).get("prompt_tokens")
        if way.form == "ids" or not isinstance(counted, int):
            return True
        tokenizer = self.served.encode
        if isinstance(tokenizer, LocalTokenizer) and self._template(way, tokenizer):
            try:
                verify_against(prompt.ids, counted)
            except EngineError as error:
                text = f"{error.what}; the server's own count is taken. {error.cure}"
                self.work.warn(self.deployment, text)
                self._strange.add(way)
                return False
            return True
        self.added_tokens[way] = counted - len(prompt.ids)
        return True

    def _template(self, way: Way, tokenizer: LocalTokenizer) -> ChatTemplate | None:
        """That of the tokenizer's folder, if it is one that keeps a message as it is."""
        if way.form != "chat" or way in self._strange:
            return None
        template = find_chat_template(str(tokenizer.file))
        return template if template and template.keeps_messages else None

    async def _count_out(
        self,
        way: Way,
        corpus: Corpus,
        tokens: int,
        seed: str,
        needles: int,
        near: int | None = None,
    ) -> Prompt:
        """By asking a tokenizer until the length is right."""
        build = build_prompt if way.form == "ids" else build_text_prompt
        encode, inside = self.served.encode, self.inside(way, tokens)
        return self.whole(way, await build(corpus, encode, inside, seed, needles, near))

    def _lay_out(
        self, corpus: Corpus, lengths: Sequence[int], seed: str, cell: str
    ) -> Sequence[int | None]:
        """A character for each prompt to start near, so that no two share text."""
        sizes = [tokens * CHARS_PER_TOKEN + 2 * LONGEST_LINE_CHARS for tokens in lengths]
        regions = lay_out(sizes, len(corpus.text), seed)
        if regions is None:
            self._warn_of_overlap(lengths, cell)
            return [None] * len(lengths)
        return [low + LONGEST_LINE_CHARS for low, _ in regions]

    def _warn_of_overlap(self, lengths: Sequence[int], cell: str) -> None:
        text = (
            f"{cell}: the corpus is too short for {len(lengths)} prompts of "
            f"{show_tokens(sum(lengths))} tokens in all without overlap; they start at different "
            "places and share text further on"
        )
        self.work.warn(self.deployment, text)

    async def _tokenised(self, corpus: Corpus, tokenizer: LocalTokenizer) -> TokenCorpus:
        """Opened once per campaign; where that takes time, those who watch see how far it is."""
        key = (corpus.sha256, tokenizer.sha256)
        if key not in self.work.token_corpora:
            loop, phase = asyncio.get_running_loop(), self.work.watcher.phase

            def show(share: float) -> None:
                text = f"tokenising the corpus: {share:.0%}"
                loop.call_soon_threadsafe(phase, self.deployment, text)

            found = await asyncio.to_thread(open_token_corpus, corpus.files, tokenizer, show)
            if found.facts["sha256"] != corpus.sha256:
                raise SpecError(
                    "the corpus was changed while the campaign ran",
                    where=corpus.source,
                    cure="leave it alone, and run again",
                )
            self.work.token_corpora[key] = found
        return self.work.token_corpora[key]
