"""What is sent to a server: lengths, prompts, proofs, and the load if there is one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from leadline.spec.frozen import Frozen, TokenCount
from leadline.spec.lengths import InputLength, OutputLength, longest
from leadline.spec.load import Load

PromptForm = Literal["ids", "text", "chat"]
Api = Literal["openai", "native"]


class SharedPrefix(Frozen):
    """A beginning that prompts of a load have in common, to measure a warm cache as asked for.

    It is sent once for each group before the load begins. One of ``tokens``, ``share`` and
    ``hit_rate``.
    """

    tokens: TokenCount | None = None
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of each prompt."""
    hit_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of all prompt tokens of the load, from the cache: the smallest share that gives it."""
    groups: Annotated[int, Field(ge=1)] = 1
    """So many different prefixes, each shared by its own group of requests."""

    @model_validator(mode="after")
    def _one(self) -> SharedPrefix:
        if [self.tokens, self.share, self.hit_rate].count(None) != 2:  # noqa: PLR2004
            raise ValueError("give its length once: as tokens, as share or by the hit_rate")
        return self


class Workload(Frozen):
    input_tokens: InputLength = "max"
    """Prompt length, exact; ``max`` is the longest that leaves room for the output. For a load also
    a distribution: ``[10k, 100k]`` (in turn), ``{uniform: [10k, 2M]}`` or ``{lognormal: {median:
    50k, sigma: 1, low: 10k, high: 2M}}``."""
    output_tokens: OutputLength = 200
    """Tokens to generate; for a load also a distribution."""
    repeats: Annotated[int, Field(ge=1, le=1000)] = 3
    """Trials, one after the other; a load has ``requests`` instead."""
    corpus: str | tuple[str, ...] = "kjv"
    """A text file, or the name of a corpus in the catalog; a list of them is joined in order."""
    prompt_as: PromptForm = "ids"
    """``ids`` (token ids to /v1/completions), ``text``, or ``chat`` (one user message)."""
    api: Api = "openai"
    """OpenAI's routes, or the engine's own: SGLang's /generate, llama.cpp's /completion."""
    cold: bool = True
    """Require that no token of the prompt came from a cache."""
    needles: Annotated[int, Field(ge=0, le=64)] = 1
    """Passkeys hidden at random depths and asked for at the end; none in the prompts of a load."""
    limit_probes: bool = True
    """Also send one prompt of exactly the longest length and one that is too long."""
    load: Load | None = None
    """Many requests at once, instead of one after the other."""
    shared_prefix: SharedPrefix | None = None
    """Of the prompts of a load."""
    turns: Annotated[int, Field(ge=1, le=100)] = 1
    """Of a load's conversations: each turn sends all that was said before, and then the user waits
    for the answer. ``input_tokens`` is the whole prompt of the last turn; each adds an equal part.
    """
    cache_block_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of the server's prefix cache, to know what it should find. Default: as the engine says."""

    @property
    def longest_input(self) -> int | Literal["max"]:
        return longest(self.input_tokens)

    @property
    def longest_output(self) -> int:
        found = longest(self.output_tokens)
        assert found != "max"  # noqa: S101  (not among the forms of an output)
        return found

    def problem(self) -> str | None:
        """What cannot be meant. Looked at with the matrix applied: it may hold what is missing."""
        spread = [
            name
            for name in ("input_tokens", "output_tokens")
            if not isinstance(getattr(self, name), int | str)
        ]
        if self.api == "native" and self.prompt_as == "chat":
            return "api: native routes take no chat; write prompt_as: ids or text"
        if self.load is None:
            needless = [*spread, *(["shared_prefix"] if self.shared_prefix else [])]
            needless += ["turns"] if self.turns > 1 else []
            return (
                f"{needless[0]}: only a load has that; add load: {{users: 1}}" if needless else None
            )
        if not self.load.drivers:
            return "load: it is driven by one of users, rate, trace and sweep; add one"
        if self.load.trace and {"input_tokens", "output_tokens"} & self.model_fields_set:
            return "load.trace: the trace gives the lengths; leave input_tokens and output_tokens"
        return self._warm_problem(self.load)

    def _warm_problem(self, load: Load) -> str | None:
        if self.shared_prefix and self.turns > 1:
            return "shared_prefix and turns: ask for one of them"
        if self.turns > 1 and load.trace:
            return "turns: a trace says what is sent; leave turns out"
        return None
