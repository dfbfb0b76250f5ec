#!/bin/bash
# The Scout kit's documented vLLM server: 2M tokens on 8xH200.
docker run -d --name vllm-llama-4-scout \
  --gpus all \
  -p 8000:8000 \
  -v /mnt/shared-models:/mnt/shared-models \
  -e HF_HOME=/mnt/shared-models \
  -e HF_TOKEN=$HF_TOKEN \
  --entrypoint python3 \
  vllm/vllm-openai:v0.12.0 \
  -m vllm.entrypoints.openai.api_server \
  --model meta-llama/Llama-4-Scout-17B-16E-Instruct \
  --tensor-parallel-size 8 \
  --max-model-len 2097152 \
  --gpu-memory-utilization 0.9
