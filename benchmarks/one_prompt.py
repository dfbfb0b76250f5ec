# ruff: noqa: INP001 - a script, not a package
"""One prompt of exact length, sent; for ``prompts.py``, which takes the time. Prints peak KiB."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path

import orjson

from leadline.prompts.corpus import find_corpora
from leadline.prompts.slices import draw_slice
from leadline.prompts.token_corpus import open_token_corpus
from leadline.prompts.tokenizer import LocalTokenizer


def main(port: str, folder: str, tokens: str, needles: str, form: str, *texts: str) -> None:
    tokenizer = LocalTokenizer(folder)
    corpus = open_token_corpus(find_corpora(texts), tokenizer)
    encode = corpus.encoder(tokenizer)
    drawn = draw_slice(corpus, encode, int(tokens), "1", int(needles))
    prompt = drawn.as_ids() if form == "ids" else drawn.as_text(encode)
    if prompt is None:
        raise SystemExit("no such text")
    content = {"prompt": prompt.ids if form == "ids" else prompt.text, "max_tokens": 1}
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    connection = http.client.HTTPConnection("127.0.0.1", int(port))
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    connection.getresponse().read()
    # Not ru_maxrss, which starts with the peak of the parent.
    status = Path("/proc/self/status").read_text("utf-8")
    print(status.partition("VmHWM:")[2].split()[0])  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
