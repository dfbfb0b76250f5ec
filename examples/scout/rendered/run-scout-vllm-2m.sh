#!/usr/bin/env bash
# Llama-4-Scout-17B-16E-Instruct on vllm 0.12.0
# Made by `leadline render scout.yaml`: change the campaign, not this file.
#
# plan: fits(7); longest prompt 2,096,952 tokens with 200 of output
# 25.3 GiB of weights and 97 GiB of KV cache on each of 8 devices: 4,236,496 tokens, 7.90x
# a cold prompt of 2,096,952 tokens is predicted to take 2 min 51 s (2 min 34 s to 3 min 13 s)
# plan warns: not looked at by the plan: enable_prefix_caching, enable_prompt_tokens_details
# plan warns: the RoPE cache of 2.5 GiB covers 10,485,760 positions; an override of max_position_embeddings to max_model_len saves 2 GiB
#
# Usage: ./run-scout-vllm-2m.sh            start it; it is reachable on http://127.0.0.1:8000
#        docker logs -f scout-vllm-2m
#        docker rm -f scout-vllm-2m
set -euo pipefail
cd "$(dirname "$0")"

# Secrets come from a file that only you can read, never from the command line.
env_file=scout-vllm-2m.env
if [[ ! -e $env_file ]]; then
  (umask 077 && printf '%s\n' 'HF_TOKEN=' 'VLLM_API_KEY=' >"$env_file")
  echo "wrote $env_file: put HF_TOKEN and VLLM_API_KEY there where needed" >&2
fi
chmod 600 "$env_file"

started=$(date +%s)
docker run \
  --detach \
  --name scout-vllm-2m \
  --label io.leadline.service=scout-vllm-2m \
  --init \
  --restart unless-stopped \
  --publish 127.0.0.1:8000:8000 \
  --gpus 8 \
  --shm-size 8589934592 \
  --ulimit memlock=-1 \
  --ulimit stack=67108864 \
  --stop-timeout 308 \
  --log-opt max-size=100m --log-opt max-file=5 \
  --volume leadline-weights:/root/.cache/huggingface \
  --volume scout-vllm-2m-compiled:/root/.cache/vllm \
  --env-file "$env_file" \
  --env HF_HOME=/root/.cache/huggingface \
  --env VLLM_CACHE_ROOT=/root/.cache/vllm \
  --env TRITON_CACHE_DIR=/root/.cache/vllm/triton \
  --env VLLM_NO_USAGE_STATS=1 \
  --env DO_NOT_TRACK=1 \
  --env VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE=1 \
  --entrypoint vllm \
  vllm/vllm-openai:v0.12.0 \
  serve meta-llama/Llama-4-Scout-17B-16E-Instruct \
  --served-model-name Llama-4-Scout-17B-16E-Instruct \
  --host 0.0.0.0 \
  --port 8000 \
  --tensor-parallel-size 8 \
  --max-model-len 2097152 \
  --gpu-memory-utilization 0.9 \
  --max-num-seqs 8 \
  --no-enable-prefix-caching \
  --enable-prompt-tokens-details

echo "starting; predicted 51.1 s to 8 min 41 s, given up after 1200 s" >&2
for ((waited = 0; waited < 1200; waited += 5)); do
  if curl --fail --silent --output /dev/null http://127.0.0.1:8000/health; then
    echo "ready after about $waited s: http://127.0.0.1:8000" >&2
    exit 0
  fi
  # One that ends is started again, and counts as running all the time.
  state=$(docker inspect --format '{{.State.Status}} {{.RestartCount}}' scout-vllm-2m)
  if [[ $state != "running 0" ]]; then
    docker stop scout-vllm-2m >/dev/null
    docker logs --tail 40 scout-vllm-2m >&2
    # Until a second from now, for what happened in this one.
    docker events --since "$started" --until "$(($(date +%s) + 1))" \
      --filter container=scout-vllm-2m --filter event=oom --filter event=die \
      --format '{{.Action}}{{with .Actor.Attributes.exitCode}}: exit code {{.}}{{end}}' >&2
    echo "scout-vllm-2m ended while starting; it is stopped, docker rm scout-vllm-2m removes it" >&2
    exit 2
  fi
  sleep 5
done
echo "not ready after 1200 s" >&2
exit 2
