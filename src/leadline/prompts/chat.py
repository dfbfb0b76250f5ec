"""What a server makes of a text or a chat message, known before the first request.

Chat templates are rendered as transformers does it, which vLLM and SGLang call: Jinja in its
immutable sandbox with ``trim_blocks``, ``lstrip_blocks``, loop controls, ``raise_exception``,
``strftime_now``, a ``tojson`` that escapes nothing, and ``generation`` blocks that add nothing.
Source: transformers 5.19.0, utils/chat_template_utils.py and tokenization_utils_base.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jinja2
import numpy as np
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from leadline.errors import EngineError, SpecError
from leadline.prompts.cuts import TokenIds
from leadline.prompts.disjoint import place_disjoint
from leadline.prompts.prompt import Prompt, as_messages
from leadline.prompts.shared import SharedPrefix, draw_shared
from leadline.prompts.slices import Added, EncodeNow, Slice, write_recipe
from leadline.prompts.token_corpus import TokenCorpus
from leadline.prompts.tokenizer import LocalTokenizer, ServerAdds
from leadline.units import show_tokens

Message = Mapping[str, Any]
_SPECIAL = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
# Stands for the message while the template is looked at; no template has this word.
_MARK = "leadlinemessageleadline"
# Many templates strip a message; text of a corpus starts with a space, so a word goes before it.
_LEAD = "Text:"


class ChatTemplate:
    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        where: str,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.special_tokens = special_tokens
        self.where = where
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise SpecError(
                f"not a chat template: {error}", where=where, cure="download the file again"
            ) from error

    @property
    def keeps_messages(self) -> bool:
        """Whether a message stands in what is rendered once, and as it is."""
        try:
            frame(self)
        except SpecError:
            return False
        return True

    def render(self, messages: Sequence[Message], **variables: Any) -> str:
        """What the server tokenises, without adding special tokens; ``SpecError`` if it refuses."""
        known = {"tools": None, "documents": None, "add_generation_prompt": True}
        try:
            return self._template.render(
                **(known | dict(self.special_tokens) | variables), messages=messages
            )
        except Exception as error:  # a template may fail in any way
            raise SpecError(
                f"the chat template refuses the messages: {error}",
                where=self.where,
                cure="send text or token ids instead",
            ) from error


def load_chat_template(reference: str) -> ChatTemplate:
    """As ``find_chat_template``; ``SpecError`` if there is none."""
    found = find_chat_template(reference)
    if found is None:
        raise SpecError(
            "no chat template there",
            where=reference,
            cure="give the folder of a chat model, with chat_template.jinja or its "
            "tokenizer_config.json; a base model takes text or token ids",
        )
    return found


def find_chat_template(reference: str) -> ChatTemplate | None:
    """Of a model's folder, or of the folder around its ``tokenizer.json``.

    ``chat_template.jinja`` comes before the one in ``tokenizer_config.json``.
    """
    path = Path(reference)
    folder = path if path.is_dir() else path.parent
    facts = _read_json(folder / "tokenizer_config.json")
    file = folder / "chat_template.jinja"
    source = file.read_text("utf-8") if file.is_file() else _default(facts.get("chat_template"))
    source = source or _default(_read_json(folder / "chat_template.json").get("chat_template"))
    return ChatTemplate(source, _special_tokens(folder, facts), str(folder)) if source else None


def added_to_text(tokenizer: LocalTokenizer, corpus: TokenCorpus | None = None) -> ServerAdds:
    """By the tokenizer's own post-processor, unless its config says otherwise of BOS or EOS.

    A corpus of this tokenizer knows the former without reading it. Chat gets nothing of this:
    there the template has it.
    """
    facts = _read_json(tokenizer.file.parent / "tokenizer_config.json")
    if "add_bos_token" not in facts and "add_eos_token" not in facts:
        return corpus.added if corpus else tokenizer.added
    tokens = _special_tokens(tokenizer.file.parent, facts)
    wanted = [
        [tokens[name]] if facts.get(f"add_{name}") and name in tokens else []
        for name in ("bos_token", "eos_token")
    ]
    return ServerAdds(*(tokenizer.encode("".join(texts)) for texts in wanted))


class ChatPrompt(NamedTuple):
    content: str
    """Of the last user message."""
    prompt: Prompt
    """Ids and text are those of the whole rendered chat."""
    history: tuple[str, ...] = ()
    """What was said before it, by user and assistant in turn."""

    @property
    def sent(self) -> Prompt:
        """With the messages instead of what the server makes of them."""
        return replace(self.prompt, text=self.content, history=self.history)


@dataclass(frozen=True)
class ChatSlice:
    """A slice between what the template puts before, between and after the messages."""

    template: ChatTemplate
    slice: Slice
    frames: tuple[str, ...]
    """One more than there are messages."""

    def __len__(self) -> int:
        """Tokens, template and BOS included."""
        return len(self.slice)

    def as_chat(self, encode: EncodeNow) -> ChatPrompt | None:
        """``None`` where the text cannot be shown to encode to the ids.

        Raises ``SpecError`` when the template does not leave the messages as they are.
        """
        prompt = self.slice.as_text(encode)
        if prompt is None or prompt.text is None:
            return None
        *history, content = self._contents(prompt.text)
        if self.template.render(as_messages(content, history)) != prompt.text:
            raise _altered(self.template)
        return ChatPrompt(content, prompt, tuple(history))

    def _contents(self, text: str) -> Iterator[str]:
        """Of each message; whoever renders them again knows whether they are the right ones."""
        start = len(self.frames[0])
        for frame in self.frames[1:-1]:
            end = text.find(frame, start)
            yield text[start:end]
            start = end + len(frame)
        yield text[start : len(text) - len(self.frames[-1])]


def draw_chats(
    corpus: TokenCorpus,
    encode: EncodeNow,
    template: ChatTemplate,
    lengths: Sequence[int],
    seed: str,
    needles: int = 1,
) -> list[ChatSlice]:
    """Messages without overlap that the server counts as exactly these tokens.

    Template and BOS are in the count. ``encode`` has to know the special tokens, as that of
    ``LocalTokenizer`` does. Raises ``SpecError`` when there is no room or the corpus is too short.
    """
    before, after = frame(template)
    head = open_message(before, encode)
    recipes = [
        write_recipe(encode, tokens - len(head.ids), f"{seed}/{number}", needles, tail=after)
        for number, tokens in enumerate(lengths)
    ]
    start = Slice(corpus, (head,))
    placed = place_disjoint(corpus, recipes, seed)
    return [ChatSlice(template, start + item, (before, after)) for item in placed]


def draw_shared_chats(
    corpus: TokenCorpus,
    encode: EncodeNow,
    template: ChatTemplate,
    lengths: Sequence[int],
    shared: SharedPrefix,
    seed: str,
) -> list[ChatSlice]:
    """As ``draw_chats``, and what the template puts before a message is part of what is shared."""
    before, after = frame(template)
    head = open_message(before, encode)
    start, count = Slice(corpus, (head,)), len(head.ids)
    drawn = draw_shared(
        corpus, encode, lengths, shared, seed, needles=0, before_tokens=count, tail=after
    )
    return [ChatSlice(template, start + item, (before, after)) for item in drawn]


def verify_against(expected: Sequence[int] | TokenIds, server: Sequence[int] | int) -> None:
    """Ids or a count of the server's own ``/tokenize``; ``EngineError`` if they are others."""
    counted = server if isinstance(server, int) else len(server)
    place = None if isinstance(server, int) else _first_difference(expected, server)
    if counted == len(expected) and place is None:
        return
    at = "" if place is None else f", the first difference is at token {show_tokens(place)}"
    raise EngineError(
        f"the server counts {show_tokens(counted)} tokens where the local tokenizer and template "
        f"count {show_tokens(len(expected))}{at}",
        where="tokenizer",
        cure="give the tokenizer folder that the server itself uses, with its chat template",
    )


def _first_difference(one: Sequence[int] | TokenIds, other: Sequence[int]) -> int | None:
    if len(one) == len(other) and np.array_equal(one, other):
        return None
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def open_message(before: str, encode: EncodeNow) -> Added:
    """What the template puts before a message, and how the message begins."""
    return Added(before + _LEAD, encode(before + _LEAD))


def frame(template: ChatTemplate) -> tuple[str, str]:
    """What is rendered before and after a message; ``SpecError`` if it is not kept as it is."""
    before, *others = template.render(as_messages(_MARK)).split(_MARK)
    if len(others) != 1:
        raise _altered(template)
    return before, others[0]


def frame_turns(template: ChatTemplate) -> tuple[str, str, str]:
    """What is rendered before a chat, after a user's message, and after an assistant's.

    ``SpecError`` if the template makes something else of a message when it is no longer the last.
    """
    before, after = frame(template)
    shown = template.render(as_messages(_MARK, [_MARK, _MARK])).split(_MARK)
    if after and [*shown[:2], *shown[3:]] == [before, after, after]:
        return before, after, shown[2]
    raise SpecError(
        "the chat template renders a message otherwise once an answer follows it, so that no turn "
        "would begin with the one before it",
        where=template.where,
        cure="send the turns as text or token ids",
    )


def _altered(template: ChatTemplate) -> SpecError:
    return SpecError(
        "the chat template does not put the message once and unchanged into the prompt",
        where=template.where,
        cure="send text or token ids instead, or let the server count",
    )


def _default(templates: Any) -> str | None:
    """Of one template, or of several with names."""
    if isinstance(templates, list):
        named = {item["name"]: item["template"] for item in templates}
        return named.get("default")
    return templates if isinstance(templates, str) else None


def _special_tokens(folder: Path, facts: Mapping[str, Any]) -> dict[str, str]:
    """By their names, as templates know them; a token is a string or has its text as content."""
    known = {**_read_json(folder / "special_tokens_map.json"), **facts}
    found = {name: known[name] for name in _SPECIAL if known.get(name)}
    return {
        name: token["content"] if isinstance(token, dict) else token
        for name, token in found.items()
    }


def _read_json(file: Path) -> dict[str, Any]:
    """Empty if there is no such file."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SpecError(
            f"cannot be read: {error}", where=str(file), cure="download it again"
        ) from error
    return content if isinstance(content, dict) else {}


def _to_json(content: Any, ensure_ascii: bool = False, **form: Any) -> str:
    return json.dumps(content, ensure_ascii=ensure_ascii, **form)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


class _Generation(Extension):
    """``{% generation %}`` marks what an assistant said, for training; here it is only itself."""

    tags = {"generation"}  # noqa: RUF012  (Jinja declares it so)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)
