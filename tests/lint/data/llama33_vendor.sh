#!/bin/bash
# The vendor's server command of the 2.28 user guide: hyphens in the key of additional_config.
vllm serve meta-llama/Llama-3.3-70B-Instruct \
    --tensor-parallel-size 64 \
    --max-num-seqs 1 \
    --max-model-len 16384 \
    --no-enable-prefix-caching \
    --additional-config '{"override-neuron-config": {"enable_bucketing": true}}' \
    --port 8000
