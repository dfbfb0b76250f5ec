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
# Runs where `pip install vllm==0.12.0` was run.
#
# Loads the model without a server, then generates once for each length of the ladder. Each row is
# one JSON line on stdout: status, exact token counts, seconds by this script's own clock.
"""Load meta-llama/Llama-4-Scout-17B-16E-Instruct offline and climb a ladder of prompt lengths."""

import argparse
import hashlib
import json
import os
import random
import sys
import time
import traceback
from array import array

os.environ.setdefault('VLLM_NO_USAGE_STATS', '1')
os.environ.setdefault('DO_NOT_TRACK', '1')
os.environ.setdefault('VLLM_HOST_IP', '127.0.0.1')
os.environ.setdefault('NO_COLOR', '1')
os.environ.setdefault('VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE', '1')
os.environ.setdefault('VLLM_ENABLE_V1_MULTIPROCESSING', '0')

MODEL = 'meta-llama/Llama-4-Scout-17B-16E-Instruct'
ARGUMENTS = {
    'tensor_parallel_size': 8,
    'max_model_len': 2097152,
    'gpu_memory_utilization': 0.9,
    'max_num_seqs': 8,
    'enable_prefix_caching': False,
}
LADDER = [262119, 524238, 1048476, 2096952]
BATCH = 1
OUTPUT_TOKENS = 200


def main() -> int:
    options = read_options()
    begun = time.perf_counter()
    try:
        engine = load(options.model)
    except Exception as error:  # whatever the engine raises is this run's result
        traceback.print_exc()
        tell("load", status="failed", seconds=time.perf_counter() - begun, error=first_line(error))
        return 2
    tell("load", status="ok", seconds=time.perf_counter() - begun)
    text_ids = read_ids(engine, options.text) if options.text else None
    failed = 0
    for rung in options.ladder or map(str, LADDER):
        tokens, output_tokens = read_rung(rung, options.output_tokens)
        try:
            failed += not climb(engine, tokens, options.batch, output_tokens, text_ids)
        except Exception as error:  # the next rung may still hold
            traceback.print_exc()
            tell("row", status="failed", input_tokens=tokens, error=first_line(error))
            failed += 1
    return 1 if failed else 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL, help="hub id or folder")
    parser.add_argument("--batch", type=int, default=BATCH, help="prompts at once")
    parser.add_argument("--output-tokens", type=int, default=OUTPUT_TOKENS)
    parser.add_argument("--ladder", nargs="*", help="prompt lengths: 8192, or 8192+200 of output")
    parser.add_argument("--text", help="file to cut the prompts from; else they are random ids")
    return parser.parse_args()


def load(model: str):
    from vllm import LLM

    return LLM(model=model, **ARGUMENTS)


def read_rung(rung: str, output_tokens: int) -> tuple[int, int]:
    tokens, _, output = rung.partition("+")
    return int(tokens), int(output or output_tokens)


def read_ids(engine, path: str) -> list[int]:
    with open(path, encoding="utf-8") as file:
        return engine.get_tokenizer().encode(file.read(), add_special_tokens=False)


def make_prompt(engine, tokens: int, text_ids: list[int] | None, draw: random.Random) -> list[int]:
    """Of a beginning that no cache knows, and of exactly that length."""
    if not text_ids:
        # The first ids are special in most vocabularies, the last ones reserved.
        size = len(engine.get_tokenizer())
        return draw.choices(range(min(1000, size // 8), size - min(1000, size // 8)), k=tokens)
    start = draw.randrange(len(text_ids))
    rounds = 2 + tokens // len(text_ids)
    return (text_ids * rounds)[start : start + tokens]


def climb(engine, tokens: int, batch: int, output_tokens: int, text_ids=None) -> bool:
    """One rung: fresh prompts, counted by the engine itself."""
    from vllm import SamplingParams

    draw = random.Random(time.time_ns())
    ids = [make_prompt(engine, tokens, text_ids, draw) for _ in range(batch)]
    sampling = SamplingParams(temperature=0, max_tokens=output_tokens, ignore_eos=True)
    begun = time.perf_counter()
    prompts = [{"prompt_token_ids": each} for each in ids]
    answers = engine.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - begun
    counted = [len(answer.prompt_token_ids) for answer in answers]
    written = [len(answer.outputs[0].token_ids) for answer in answers]
    whole = counted == [tokens] * batch and written == [output_tokens] * batch
    tell(
        "row",
        status="ok" if whole else "wrong-length",
        input_tokens=tokens,
        batch=batch,
        seconds=seconds,
        counted_tokens=counted,
        output_tokens=written,
        cached_tokens=[getattr(answer, "num_cached_tokens", None) for answer in answers],
        finish_reasons=[answer.outputs[0].finish_reason for answer in answers],
        texts=[answer.outputs[0].text for answer in answers],
        ids_sha256=[hashlib.sha256(array("I", each).tobytes()).hexdigest() for each in ids],
    )
    return whole


def tell(event: str, **facts) -> None:
    # In one write, and on a line of its own whatever the engine has printed before.
    sys.stdout.write("\n" + json.dumps({"leadline.offline/1": event, **facts}) + "\n")
    sys.stdout.flush()


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


if __name__ == "__main__":
    sys.exit(main())
