#!/bin/bash
# The Scout kit's documented SGLang server: graphs disabled "to avoid OOM with 2M context".
docker run -d --name sglang-llama-4-scout \
  --gpus all --shm-size 128g --ipc=host \
  -p 8000:8000 \
  -v /mnt/shared-models:/mnt/shared-models \
  -e HF_HOME=/mnt/shared-models \
  lmsysorg/sglang:v0.5.6.post2-runtime \
  python3 -m sglang.launch_server \
  --model-path meta-llama/Llama-4-Scout-17B-16E-Instruct \
  --tp-size 8 \
  --context-length 2097152 \
  --mem-fraction-static 0.80 \
  --disable-cuda-graph \
  --host 0.0.0.0 --port 8000
