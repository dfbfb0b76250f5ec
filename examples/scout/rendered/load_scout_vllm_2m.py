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
import json
import os
import random
import sys
import time

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
        tell("load", status="failed", seconds=time.perf_counter() - begun, error=first_line(error))
        return 2
    tell("load", status="ok", seconds=time.perf_counter() - begun)
    failed = 0
    for tokens in options.ladder or LADDER:
        try:
            failed += not climb(engine, tokens, options.batch, options.output_tokens)
        except Exception as error:  # the next rung may still hold
            tell("row", status="failed", input_tokens=tokens, error=first_line(error))
            failed += 1
    return 1 if failed else 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL, help="hub id or folder")
    parser.add_argument("--batch", type=int, default=BATCH, help="prompts at once")
    parser.add_argument("--output-tokens", type=int, default=OUTPUT_TOKENS)
    parser.add_argument("--ladder", type=int, nargs="*", help="prompt lengths in tokens")
    return parser.parse_args()


def load(model: str):
    from vllm import LLM

    return LLM(model=model, **ARGUMENTS)


def climb(engine, tokens: int, batch: int, output_tokens: int) -> bool:
    """One rung: fresh random ids, so that no cache knows them; counted by the engine itself."""
    from vllm import SamplingParams

    draw = random.Random(time.time_ns())
    # The first ids are special in most vocabularies, the last ones reserved.
    vocabulary = range(1000, len(engine.get_tokenizer()) - 1000)
    prompts = [{"prompt_token_ids": draw.choices(vocabulary, k=tokens)} for _ in range(batch)]
    sampling = SamplingParams(temperature=0, max_tokens=output_tokens, ignore_eos=True)
    begun = time.perf_counter()
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
        counted_tokens=counted,
        output_tokens=written,
        seconds=seconds,
        cached_tokens=[getattr(answer, "num_cached_tokens", None) for answer in answers],
    )
    return whole


def tell(event: str, **facts) -> None:
    print(json.dumps({"leadline.offline/1": event, **facts}), flush=True)


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"


if __name__ == "__main__":
    sys.exit(main())
