#!/usr/bin/env python3
# Llama-4-Scout-17B-16E-Instruct on vllm 0.12.0
# Made by `leadline render scout.yaml`: change the campaign, not this file.
#
# plan: fits(7); longest prompt 2,096,952 tokens with 200 of output
# 25.3 GiB of weights and 97 GiB of KV cache on each of 8 devices: 4,236,496 tokens, 7.90x
# a cold prompt of 2,096,952 tokens is predicted to take 2 min 51 s (2 min 34 s to 3 min 13 s)
# plan warns: not looked at by the plan: enable_prefix_caching, enable_prompt_tokens_details
# plan warns: the RoPE cache of 2.5 GiB covers 10,485,760 positions; an override of max_position_embeddings to max_model_len saves 2 GiB
#
# Asks the server once, streaming, and says what it counted. Needs nothing but Python.
#
#   leadline prompt --tokenizer TOKENIZER --corpus TEXT --tokens 2096952 --out prompt.json
#   ./client_scout_vllm_2m.py --prompt prompt.json
#
# This shows that the server answers. `leadline prove` shows that it read every token, cold.
"""Ask Llama-4-Scout-17B-16E-Instruct once."""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request

MODEL = 'Llama-4-Scout-17B-16E-Instruct'
TIMEOUT_S = 293  # the longest request by the plan


def main() -> int:
    options = read_options()
    body = read_prompt(options.prompt) | {
        "model": options.model,
        "max_tokens": options.output_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    try:
        return ask(options.url, body)
    except urllib.error.HTTPError as error:
        print(f"HTTP {error.code}: {error.read(2000).decode(errors='replace')}", file=sys.stderr)
    except OSError as error:
        print(f"{options.url}: {error}", file=sys.stderr)
    return 2


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--prompt", help="a request body made by `leadline prompt`")
    parser.add_argument("--output-tokens", type=int, default=200)
    return parser.parse_args()


def read_prompt(path: str | None) -> dict:
    if path is None:
        return {"prompt": "The capital of France is"}
    with open(path, encoding="utf-8") as file:
        return {"prompt": json.load(file)["prompt"]}


def ask(url: str, body: dict) -> int:
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    if key := os.environ.get("VLLM_API_KEY"):
        request.add_header("Authorization", f"Bearer {key}")
    begun = time.perf_counter()
    first = usage = reason = None
    text = ""
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        for line in answer:
            if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
                continue
            event = json.loads(line[5:])
            if "error" in event:
                print(f"the stream ended in an error: {event['error']}", file=sys.stderr)
                return 2
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                first = first or time.perf_counter()
                text += choice["text"]
                reason = choice.get("finish_reason") or reason
    ended = time.perf_counter()
    print(text)
    return tell(body, usage, reason, first and first - begun, ended - begun)


def tell(body: dict, usage: dict | None, reason: str | None, ttft_s: float | None, e2e_s: float):
    facts = {"usage": usage, "finish_reason": reason, "ttft_s": ttft_s, "e2e_s": e2e_s}
    print(json.dumps(facts), file=sys.stderr)
    sent = body["prompt"]
    counted = (usage or {}).get("prompt_tokens")
    if isinstance(sent, list) and counted != len(sent):
        print(f"sent {len(sent)} tokens, the server counted {counted}", file=sys.stderr)
        return 1
    return 0 if reason in ("stop", "length") else 1


if __name__ == "__main__":
    sys.exit(main())
