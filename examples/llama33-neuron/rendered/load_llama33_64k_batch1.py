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
# Runs in /opt/aws_neuronx_venv_pytorch_inference_vllm_0_13 of the Neuron image.
#
# Loads the model without a server, then generates once for each length of the ladder. Each row is
# one JSON line on stdout: status, exact token counts, seconds by this script's own clock.
"""Load meta-llama/Llama-3.3-70B-Instruct offline and climb a ladder of prompt lengths."""

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
os.environ.setdefault('VLLM_ENABLE_V1_MULTIPROCESSING', '0')

MODEL = 'meta-llama/Llama-3.3-70B-Instruct'
ARGUMENTS = {
    'tensor_parallel_size': 64,
    'dtype': 'bfloat16',
    'max_model_len': 65536,
    'max_num_seqs': 1,
    'enable_prefix_caching': False,
    'additional_config': {'override_neuron_config': {'context_encoding_buckets': [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536], 'token_generation_buckets': [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]}},
}
LADDER = [8167, 16334, 32668, 65336]
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
