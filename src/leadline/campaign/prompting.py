"""Exact prompts for one server: from the token corpus of a local tokenizer where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from leadline.campaign.serving import Served
from leadline.campaign.work import Work
from leadline.errors import SpecError
from leadline.prompts.corpus import Corpus
from leadline.prompts.haystack import (
    CHARS_PER_TOKEN,
    LONGEST_LINE_CHARS,
    Prompt,
    build_prompt,
)
from leadline.prompts.layout import lay_out
from leadline.prompts.slices import REACH_TOKENS, draw_slice
from leadline.prompts.text import build_text_prompt
from leadline.prompts.token_corpus import TokenCorpus, UncuttableError, open_token_corpus
from leadline.prompts.tokenizer import LocalTokenizer
from leadline.records import Record
from leadline.spec import PromptForm


@dataclass(frozen=True)
class PromptBuilder:
    """Builds for one start of one deployment, whose own additions to a prompt it learns."""

    work: Work
    served: Served
    deployment: str
    overhead_tokens: dict[PromptForm, int] = field(default_factory=lambda: {"ids": 0})
    """What the server adds to a prompt of that form: a first token, a chat template."""

    async def build(
        self,
        form: PromptForm,
        corpus: Corpus,
        tokens: int,
        seed: str,
        needles: int,
        near: int | None = None,
    ) -> Prompt:
        """A prompt that the server should count as exactly ``tokens``; ``near`` as laid out."""
        encode = self.served.encode
        inside = max(1, tokens - self.overhead_tokens.get(form, 0))
        if isinstance(encode, LocalTokenizer):
            with suppress(UncuttableError):
                tokenised = await self._tokenised(corpus, encode)
                drawn = draw_slice(tokenised, encode.encode, inside, seed, needles, near)
                found = drawn.as_ids() if form == "ids" else drawn.as_text(encode.encode)
                if found:
                    return found
                near = None  # that was a place among tokens
        build = build_prompt if form == "ids" else build_text_prompt
        return await build(corpus, encode, inside, seed, needles, near)

    async def lay_out(
        self, corpus: Corpus, lengths: Sequence[int], seed: str
    ) -> Sequence[int | None]:
        """A place for each prompt, so that none shares text with another.

        Anywhere, for all of them, where the corpus is too short for that.
        """
        room, sizes, before = len(corpus.text), [n * CHARS_PER_TOKEN for n in lengths], 0
        if isinstance(self.served.encode, LocalTokenizer):
            with suppress(UncuttableError):
                tokenised = await self._tokenised(corpus, self.served.encode)
                room, sizes, before = len(tokenised.ids), list(lengths), REACH_TOKENS
        before = before or LONGEST_LINE_CHARS
        starts = lay_out([size + 2 * before for size in sizes], room, seed)
        return [None] * len(sizes) if starts is None else [start + before for start in starts]

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

    def learn_overhead(self, record: Record, form: PromptForm) -> None:
        """From a request of known length: the rest of the server's count is its own."""
        counted = (record.exchange.usage or {}).get("prompt_tokens")
        if isinstance(counted, int):
            self.overhead_tokens[form] = counted - record.sent.input_tokens
