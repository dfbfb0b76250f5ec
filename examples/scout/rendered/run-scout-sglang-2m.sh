#!/usr/bin/env bash
# Llama-4-Scout-17B-16E-Instruct on sglang 0.5.6.post2
# Made by `leadline render scout.yaml`: change the campaign, not this file.
#
# plan: fits(1); longest prompt 2,096,950 tokens with 200 of output
# 25.1 GiB of weights and 80.1 GiB of KV cache on each of 8 devices: 3,500,000 tokens, 1.67x
# a cold prompt of 2,096,950 tokens is predicted to take 3 min 13 s (2 min 34 s to 6 min 46 s)
# plan warns: not looked at by the plan: disable_radix_cache
#
# Usage: ./run-scout-sglang-2m.sh            start it; it is reachable on http://127.0.0.1:8000
#        docker logs -f scout-sglang-2m
#        docker rm -f scout-sglang-2m
set -euo pipefail
cd "$(dirname "$0")"

# Secrets come from a file that only you can read, never from the command line.
env_file=scout-sglang-2m.env
if [[ ! -e $env_file ]]; then
  (umask 077 && printf '%s\n' 'HF_TOKEN=' >"$env_file")
  echo "wrote $env_file: put HF_TOKEN there where needed" >&2
fi
chmod 600 "$env_file"

started=$(date +%s)
docker run \
  --detach \
  --name scout-sglang-2m \
  --label io.leadline.service=scout-sglang-2m \
  --init \
  --restart unless-stopped \
  --publish 127.0.0.1:8000:8000 \
  --gpus 8 \
  --shm-size 8589934592 \
  --ulimit memlock=-1 \
  --ulimit stack=67108864 \
  --stop-timeout 627 \
  --log-opt max-size=100m --log-opt max-file=5 \
  --volume leadline-weights:/root/.cache/huggingface \
  --volume scout-sglang-2m-compiled:/root/.cache/compiled \
  --env-file "$env_file" \
  --env HF_HOME=/root/.cache/huggingface \
  --env TRITON_CACHE_DIR=/root/.cache/compiled/triton \
  --env TORCHINDUCTOR_CACHE_DIR=/root/.cache/compiled/inductor \
  --env SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION=0 \
  --entrypoint python3 \
  lmsysorg/sglang:v0.5.6.post2 \
  -m sglang.launch_server \
  --model-path meta-llama/Llama-4-Scout-17B-16E-Instruct \
  --served-model-name Llama-4-Scout-17B-16E-Instruct \
  --host 0.0.0.0 \
  --port 8000 \
  --enable-metrics \
  --enable-cache-report \
  --tp-size 8 \
  --context-length 2097152 \
  --mem-fraction-static 0.8 \
  --max-running-requests 8 \
  --disable-radix-cache

echo "starting; predicted 50.9 s to 8 min 37 s, given up after 1200 s" >&2
for ((waited = 0; waited < 1200; waited += 5)); do
  if curl --fail --silent --output /dev/null http://127.0.0.1:8000/health; then
    echo "ready after about $waited s: http://127.0.0.1:8000" >&2
    exit 0
  fi
  # One that ends is started again, and counts as running all the time.
  state=$(docker inspect --format '{{.State.Status}} {{.RestartCount}}' scout-sglang-2m)
  if [[ $state != "running 0" ]]; then
    docker stop scout-sglang-2m >/dev/null
    docker logs --tail 40 scout-sglang-2m >&2
    # Until a second from now, for what happened in this one.
    docker events --since "$started" --until "$(($(date +%s) + 1))" \
      --filter container=scout-sglang-2m --filter event=oom --filter event=die \
      --format '{{.Action}}{{with .Actor.Attributes.exitCode}}: exit code {{.}}{{end}}' >&2
    echo "scout-sglang-2m ended while starting; it is stopped, docker rm scout-sglang-2m removes it" >&2
    exit 2
  fi
  sleep 5
done
echo "not ready after 1200 s" >&2
exit 2
