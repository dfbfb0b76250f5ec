"""``leadline prompt``: an exact prompt alone, as a request body that is ready to send."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.options import json_option, read_tokens
from leadline.cli.terminal import echo_json
from leadline.errors import SpecError
from leadline.units import show_bytes, show_tokens

if TYPE_CHECKING:
    from leadline.prompts.haystack import Prompt


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
@click.option("--tokens", required=True, help="Exact prompt length, for example 2M.")
@click.option("--needles", type=click.IntRange(0, 64), default=0, help="Passkeys to hide.")
@click.option("--seed", default="0", show_default=True, help="Equal seed, equal prompt.")
@click.option(
    "--as",
    "form",
    default="ids",
    show_default=True,
    type=click.Choice(["ids", "text", "chat"]),
    help="Token ids, text, or a chat message.",
)
@click.option("--model", help="Model name to put into the request.")
@click.option("--output-tokens", default="200", show_default=True, help="Tokens to ask for.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The request body.")
@json_option
def prompt(out: Path, form: str, as_json: bool, **options: Any) -> int:
    """Write a prompt of exactly N tokens of real text; nothing is repeated.

    When a text first meets a tokenizer it is tokenised and kept; from then on a prompt of any
    length takes milliseconds. What a server adds by itself (a first token, a chat template) is
    not counted.
    """
    tokens = read_tokens("--tokens", options["tokens"])
    output_tokens = read_tokens("--output-tokens", options["output_tokens"])
    found, facts = _draw(form, tokens, **options)
    body = _body(found, form, options["model"], output_tokens)
    try:
        out.write_bytes(body)
    except OSError as error:
        raise SpecError(
            f"cannot be written: {error.strerror}", where=str(out), cure="choose another --out"
        ) from error
    facts |= {"out": str(out), "bytes": len(body)}
    if as_json:
        echo_json(facts)
    else:
        click.echo(_describe(facts))
    return 0


def _draw(
    form: str,
    count: int,
    *,
    tokenizer: str,
    corpora: tuple[str, ...],
    seed: str,
    needles: int,
    **_: Any,
) -> tuple[Prompt, dict[str, Any]]:
    from leadline.prompts.corpus import find_corpora
    from leadline.prompts.slices import draw_slice
    from leadline.prompts.token_corpus import open_token_corpus
    from leadline.prompts.tokenizer import LocalTokenizer

    local = LocalTokenizer(tokenizer)
    corpus = open_token_corpus(find_corpora(corpora), local, _show_share)
    encode = corpus.encoder(local)
    drawn = draw_slice(corpus, encode, count, seed, needles)
    found = drawn.as_ids() if form == "ids" else drawn.as_text(encode)
    if found is None:
        raise SpecError(
            f"no text of this corpus provably has exactly {show_tokens(count)} tokens",
            where=f"--as {form}",
            cure="give a longer corpus, another length or seed, or send --as ids",
        )
    facts = {
        "schema": "leadline.prompt/1",
        "form": form,
        "tokens": len(found.ids),
        "ids_sha256": found.ids_sha256,
        "seed": seed,
        "needles": [needle.model_dump() for needle in found.needles],
        "corpus_start": found.corpus_start,
        "corpus_tokens": len(corpus.ids),
        "corpus": dict(corpus.facts),
    }
    return found, facts


def _show_share(share: float) -> None:
    click.echo(f"\rtokenising the corpus: {share:4.0%}", nl=share == 1, err=True)


def _body(found: Prompt, form: str, model: str | None, output_tokens: int) -> bytes:
    import orjson

    content: dict[str, Any] = {"model": model} if model else {}
    if form == "chat":
        content["messages"] = [{"role": "user", "content": found.text}]
    else:
        content["prompt"] = found.ids if form == "ids" else found.text
    content |= {"max_tokens": output_tokens, "temperature": 0}
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _describe(facts: dict[str, Any]) -> str:
    corpus = facts["corpus"]
    tokens, held = show_tokens(facts["tokens"]), show_tokens(facts["corpus_tokens"])
    lines = [
        f"{facts['out']}: exactly {tokens} tokens as {facts['form']}, {show_bytes(facts['bytes'])}",
        f"ids SHA-256 {facts['ids_sha256']}",
        f"from character {facts['corpus_start']:,} of {corpus['source']} ({held} tokens)",
    ]
    lines += [
        f"needle {needle['answer']} after {show_tokens(needle['depth_tokens'])} tokens"
        for needle in facts["needles"]
    ]
    return "\n".join(lines)
