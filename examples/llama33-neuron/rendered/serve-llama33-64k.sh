#!/usr/bin/env bash
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
# Starts the server in the foreground on http://127.0.0.1:8000.
# Secrets come from the environment: HF_TOKEN, VLLM_API_KEY.
set -euo pipefail

export VLLM_NO_USAGE_STATS=1
export DO_NOT_TRACK=1
export VLLM_HOST_IP=127.0.0.1
export NO_COLOR=1

exec vllm \
  serve meta-llama/Llama-3.3-70B-Instruct \
  --served-model-name Llama-3.3-70B-Instruct \
  --host 127.0.0.1 \
  --port 8000 \
  --tensor-parallel-size 64 \
  --dtype bfloat16 \
  --max-model-len 65536 \
  --max-num-seqs 1 \
  --no-enable-prefix-caching \
  --additional-config '{"override_neuron_config":{"context_encoding_buckets":[256,512,1024,2048,4096,8192,16384,32768,65536],"token_generation_buckets":[256,512,1024,2048,4096,8192,16384,32768,65536]}}'
