"""``leadline prompt``: exact prompts alone, as request bodies that are ready to send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.options import json_option, read_percent, read_tokens
from leadline.cli.terminal import echo_json
from leadline.errors import SpecError
from leadline.units import show_bytes, show_tokens

if TYPE_CHECKING:
    from leadline.prompts.chat import ChatSlice, ChatTemplate
    from leadline.prompts.haystack import Prompt
    from leadline.prompts.shared import SharedPrefix
    from leadline.prompts.slices import Slice
    from leadline.prompts.token_corpus import TokenCorpus
    from leadline.prompts.tokenizer import LocalTokenizer


@dataclass(frozen=True)
class Asked:
    """The options, read."""

    tokenizer: str
    corpora: tuple[str, ...]
    tokens: str | None
    lengths: str | None
    count: int | None
    session: str | None
    shared_prefix: str | None
    hit_rate: str | None
    groups: int
    block_tokens: int
    needles: int
    seed: str
    form: str
    model: str | None
    output_tokens: str


@click.command()
@click.option("--tokenizer", required=True, help="tokenizer.json or the folder that holds it.")
@click.option(
    "--corpus",
    "corpora",
    multiple=True,
    default=("kjv",),
    show_default=True,
    help="UTF-8 text file or catalog name; several are joined in order.",
)
@click.option("--tokens", help="Exact prompt length, for example 2M.")
@click.option(
    "--lengths",
    help="Instead: 10k,100k in turn, uniform:10k..2M, lognormal:100k,0.8:10k..2M, trace:FILE.",
)
@click.option("--session", help="Instead: a conversation; whole length of each turn, 4k,8k,16k.")
@click.option(
    "--count", type=click.IntRange(1), help="Prompts or sessions, without overlap, as JSON lines."
)
@click.option("--shared-prefix", help="First tokens that prompts share: 4k, or 50% of each.")
@click.option("--hit-rate", help="Instead: share as much as gives this cache hit rate, e.g. 60%.")
@click.option(
    "--groups",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Different shared prefixes, given to the prompts in turn.",
)
@click.option(
    "--block-tokens",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Cache block or page of the engine, to count its hits.",
)
@click.option("--needles", type=click.IntRange(0, 64), default=0, help="Passkeys to hide.")
@click.option("--seed", default="0", show_default=True, help="Equal seed, equal prompt.")
@click.option(
    "--as",
    "form",
    default="ids",
    show_default=True,
    type=click.Choice(["ids", "text", "chat"]),
    help="Token ids, text, or a chat.",
)
@click.option("--chat", is_flag=True, help="The same as --as chat.")
@click.option("--model", help="Model name to put into the request.")
@click.option("--output-tokens", default="200", show_default=True, help="Tokens to ask for.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The request body or bodies."
)
@json_option
def prompt(out: Path, chat: bool, form: str, as_json: bool, **options: Any) -> int:
    """Write prompts of exactly N tokens of real text; nothing is repeated.

    When a text first meets a tokenizer it is tokenised and kept; from then on a prompt of any
    length takes milliseconds. The length is what the server counts: a first token of its own and
    the chat template are included, where the tokenizer's folder says what they are.
    """
    asked = Asked(form="chat" if chat else form, **options)
    _check(asked)
    drawn, facts = _draw(asked)
    answer_tokens = read_tokens("--output-tokens", asked.output_tokens)
    bodies = [_body(item, asked, answer_tokens) for item in drawn]
    _write(out, b"\n".join(bodies) + (b"\n" if _is_many(asked) else b""))
    for item, body in zip(facts["prompts"], bodies, strict=True):
        item["bytes"] = len(body)
    shown = facts if _is_many(asked) else _only(facts)
    shown |= {"out": str(out)}
    if as_json:
        echo_json(shown)
    else:
        click.echo("\n".join(_describe(shown)))
    return 0


def _check(asked: Asked) -> None:
    given = [name for name in ("tokens", "lengths", "session") if getattr(asked, name) is not None]
    if len(given) != 1:
        raise SpecError(
            f"{'several lengths' if given else 'no length'}: {', '.join(given) or 'none'}",
            where="--tokens",
            cure="give one of --tokens 2M, --lengths uniform:10k..2M and --session 4k,8k",
        )
    is_shared = asked.shared_prefix or asked.hit_rate
    twice = asked.shared_prefix and asked.hit_rate
    if is_shared and (asked.session or twice):
        raise SpecError(
            "a shared prefix does not go with sessions, and is asked for once",
            where="--shared-prefix",
            cure="give --shared-prefix or --hit-rate, with --tokens or --lengths",
        )
    if asked.needles and asked.form == "chat" and (is_shared or asked.session):
        raise SpecError(
            "in chat, prompts that share text hide no passkeys",
            where="--needles",
            cure="leave needles out, or write the prompts as ids or text",
        )


def _draw(asked: Asked) -> tuple[list[Prompt], dict[str, Any]]:
    from leadline.prompts.corpus import find_corpora
    from leadline.prompts.token_corpus import open_token_corpus
    from leadline.prompts.tokenizer import LocalTokenizer

    tokenizer = LocalTokenizer(asked.tokenizer)
    corpus = open_token_corpus(find_corpora(asked.corpora), tokenizer, _show_share)
    facts: dict[str, Any] = {"schema": "leadline.prompts/1", "form": asked.form, "seed": asked.seed}
    draw = _draw_chats if asked.form == "chat" else _draw_plain
    drawn = draw(asked, corpus, tokenizer, facts)
    facts |= {"corpus_tokens": len(corpus.ids), "corpus": dict(corpus.facts)}
    added = facts["server_adds_tokens"] or 0
    facts["prompts"] = [_facts(item, added) for item in drawn]
    return drawn, facts


def _draw_plain(
    asked: Asked, corpus: TokenCorpus, tokenizer: LocalTokenizer, facts: dict[str, Any]
) -> list[Prompt]:
    from leadline.prompts.chat import added_to_text

    encode = corpus.encoder(tokenizer)
    added = added_to_text(tokenizer, corpus).tokens if asked.form == "text" else 0
    slices = _draw_slices(asked, corpus, encode, added)
    prompts = [item.as_ids() if asked.form == "ids" else item.as_text(encode) for item in slices]
    facts["server_adds_tokens"] = added
    facts |= _expected_cache(asked, slices)
    return [_exact(prompt, asked) for prompt in prompts]


def _expected_cache(asked: Asked, slices: Sequence[Slice]) -> dict[str, Any]:
    from leadline.prompts.shared import expect_hits

    if not (asked.shared_prefix or asked.hit_rate or asked.session):
        return {}
    hits = expect_hits([item.as_ids().ids for item in slices], asked.block_tokens)
    found = {
        "block_tokens": asked.block_tokens,
        "cached_tokens": hits.cached_tokens,
        "hit_rate": float(hits.rate),
    }
    return {"expected_cache": found}


def _draw_slices(asked: Asked, corpus: TokenCorpus, encode: Any, added: int) -> list[Any]:
    from leadline.prompts.disjoint import draw_disjoint
    from leadline.prompts.sessions import draw_sessions
    from leadline.prompts.shared import draw_shared
    from leadline.prompts.slices import draw_slice

    if asked.session:
        turns = [tokens - added for tokens in _turns(asked.session)]
        sessions = draw_sessions(
            corpus, encode, [turns] * (asked.count or 1), asked.seed, asked.needles
        )
        return [turn for session in sessions for turn in session]
    lengths = [_inside(tokens, added) for tokens in _lengths(asked)]
    if asked.shared_prefix or asked.hit_rate:
        shared = _shared(asked, lengths)
        return draw_shared(corpus, encode, lengths, shared, asked.seed, asked.needles)
    if _is_many(asked):
        return draw_disjoint(corpus, encode, lengths, asked.seed, asked.needles)
    return [draw_slice(corpus, encode, lengths[0], asked.seed, asked.needles)]


def _draw_chats(
    asked: Asked, corpus: TokenCorpus, tokenizer: LocalTokenizer, facts: dict[str, Any]
) -> list[Prompt]:
    """With the template, if there is one; else the message alone is counted, and that is said."""
    from leadline.prompts.chat import find_chat_template

    template = find_chat_template(asked.tokenizer)
    if template is None and asked.session:
        raise SpecError(
            "no chat template there, and a conversation is exact only with it",
            where=asked.tokenizer,
            cure="give the folder of a chat model, or write the session as ids or text",
        )
    if template is None:
        plain = _draw_plain(replace(asked, form="text"), corpus, tokenizer, facts)
        facts["server_adds_tokens"] = None
        return plain
    slices = _draw_chat_slices(asked, corpus, tokenizer.encode, template)
    facts["server_adds_tokens"] = 0
    facts |= _expected_cache(asked, [item.slice for item in slices])
    chats = [item.as_chat(tokenizer.encode) for item in slices]
    return [_exact(chat and chat.sent, asked) for chat in chats]


def _draw_chat_slices(
    asked: Asked, corpus: TokenCorpus, encode: Any, template: ChatTemplate
) -> Sequence[ChatSlice]:
    from leadline.prompts.chat import draw_chats, draw_shared_chats
    from leadline.prompts.dialogs import DialogTurn, draw_dialogs

    if asked.session:
        answer_tokens = read_tokens("--output-tokens", asked.output_tokens)
        turns = [DialogTurn(tokens, answer_tokens) for tokens in _turns(asked.session)]
        dialogs = [turns] * (asked.count or 1)
        return list(chain(*draw_dialogs(corpus, encode, template, dialogs, asked.seed)))
    lengths = _lengths(asked)
    if asked.shared_prefix or asked.hit_rate:
        shared = _shared(asked, lengths)
        return draw_shared_chats(corpus, encode, template, lengths, shared, asked.seed)
    return draw_chats(corpus, encode, template, lengths, asked.seed, asked.needles)


def _turns(session: str) -> list[int]:
    return [read_tokens("--session", turn) for turn in session.split(",")]


def _lengths(asked: Asked) -> list[int]:
    from leadline.prompts.lengths import draw_lengths, parse_lengths

    if asked.tokens is not None:
        return [read_tokens("--tokens", asked.tokens)] * (asked.count or 1)
    assert asked.lengths is not None  # noqa: S101
    return draw_lengths(parse_lengths(asked.lengths), asked.count or 1, asked.seed)


def _inside(tokens: int, added: int) -> int:
    if tokens <= added:
        raise SpecError(
            f"the server alone adds {added} tokens", where="--tokens", cure="ask for more tokens"
        )
    return tokens - added


def _shared(asked: Asked, lengths: list[int]) -> SharedPrefix:
    from leadline.prompts.shared import SharedPrefix, share_for_rate

    if asked.hit_rate:
        rate = read_percent("--hit-rate", asked.hit_rate)
        return share_for_rate(lengths, rate, asked.block_tokens, groups=asked.groups)
    assert asked.shared_prefix is not None  # noqa: S101
    if asked.shared_prefix.endswith("%"):
        share = read_percent("--shared-prefix", asked.shared_prefix)
        return SharedPrefix(share=share, groups=asked.groups)
    tokens = read_tokens("--shared-prefix", asked.shared_prefix)
    return SharedPrefix(tokens=tokens, groups=asked.groups)


def _exact(found: Prompt | None, asked: Asked) -> Prompt:
    if found is None:
        raise SpecError(
            "no text of this corpus provably has exactly the tokens asked for",
            where=f"--as {asked.form}",
            cure="give a longer corpus, another length or seed, or send --as ids",
        )
    return found


def _facts(found: Prompt, added: int) -> dict[str, Any]:
    return {
        "tokens": len(found.ids) + added,
        "ids_sha256": found.ids_sha256,
        "needles": [needle.model_dump() for needle in found.needles],
        "corpus_start": found.corpus_start,
    }


def _only(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of one prompt, flat."""
    (alone,) = facts.pop("prompts")
    return {**facts, "schema": "leadline.prompt/1", **alone}


def _is_many(asked: Asked) -> bool:
    return asked.count is not None or asked.session is not None


def _show_share(share: float) -> None:
    click.echo(f"\rtokenising the corpus: {share:4.0%}", nl=share == 1, err=True)


def _body(found: Prompt, asked: Asked, output_tokens: int) -> bytes:
    import orjson

    content: dict[str, Any] = {"model": asked.model} if asked.model else {}
    if asked.form == "chat":
        content["messages"] = found.messages
    else:
        content["prompt"] = found.ids if asked.form == "ids" else found.text
    content |= {"max_tokens": output_tokens, "temperature": 0}
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _write(out: Path, content: bytes) -> None:
    try:
        out.write_bytes(content)
    except OSError as error:
        raise SpecError(
            f"cannot be written: {error.strerror}", where=str(out), cure="choose another --out"
        ) from error


def _describe(facts: dict[str, Any]) -> list[str]:
    prompts = facts.get("prompts", [facts])
    size = show_bytes(sum(item["bytes"] for item in prompts))
    counts = [item["tokens"] for item in prompts]
    shown = show_tokens(counts[0])
    if min(counts) < max(counts):
        shown = f"{show_tokens(min(counts))} to {show_tokens(max(counts))}"
    many = f"{len(prompts)} prompts of " if "prompts" in facts else ""
    lines = [f"{facts['out']}: {many}exactly {shown} tokens as {facts['form']}, {size}"]
    if facts["server_adds_tokens"] is None:
        lines.append("no chat template found: what the server puts around the message comes on top")
    held, source = show_tokens(facts["corpus_tokens"]), facts["corpus"]["source"]
    if "prompts" in facts:
        lines.append(f"{show_tokens(sum(counts))} tokens in all, from {source} ({held} tokens)")
    else:
        lines.append(f"ids SHA-256 {facts['ids_sha256']}")
        lines.append(f"from character {facts['corpus_start']:,} of {source} ({held} tokens)")
        lines += [
            f"needle {needle['answer']} after {show_tokens(needle['depth_tokens'])} tokens"
            for needle in facts["needles"]
        ]
    if cache := facts.get("expected_cache"):
        lines.append(
            f"sent in this order to an empty cache with blocks of {cache['block_tokens']}: "
            f"{show_tokens(sum(cache['cached_tokens']))} tokens cached, hit rate "
            f"{cache['hit_rate']:.2%}"
        )
    return lines
