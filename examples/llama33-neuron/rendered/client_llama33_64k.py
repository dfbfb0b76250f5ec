#!/usr/bin/env python3
# Llama-3.3-70B-Instruct on neuron 0.4.1
# Made by `leadline render llama33.yaml`: change the campaign, not this file.
#
# plan: fits(1); longest prompt 65,336 tokens with 200 of output
# 2.33 GiB of weights and 2.5 GiB of KV cache on each of 64 devices: 65,536 tokens, 1.00x
# a cold prompt of 65,336 tokens is predicted to take 3.89 s (2.72 s to 9.08 s)
# plan warns: packages: vllm-neuron 0.4.1, vLLM 0.13.0, NxDI 0.8.16251, neuronx-cc 2.23.6484, SDK 2.28
# plan warns: NEURON_COMPILED_ARTIFACTS is not set: every start traces the model again
# plan warns: 8 KV heads on 64 cores: every token is stored 8 times
# plan warns: memory of the compiled graphs is fitted (calibrated: fitted on the four runs with prefix caching of the Llama-3.3-70B kit (trn2.48xlarge, TP 64) that reached loading: memory left after weights and KV cache, divided by the graphs; code, constants, DMA rings, scratchpad and collectives together; not sure: low confidence: both ends hang on one run each (16K with 4096 blocks failed, 16K with 1024 x 64 loaded); other records: 87 MiB a graph in a native-plugin fork, about 1.9 GiB for all of an 8B model on inf2)
#
# Asks the server once, streaming, and says what it counted. Needs nothing but Python.
#
#   leadline prompt --tokenizer TOKENIZER --corpus TEXT --tokens 65336 --out prompt.json
#   ./client_llama33_64k.py --prompt prompt.json
#
# This shows that the server answers. `leadline prove` shows that it read every token, cold.
"""Ask Llama-3.3-70B-Instruct once."""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request

MODEL = 'Llama-3.3-70B-Instruct'
TIMEOUT_S = 20  # the longest request by the plan


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
