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
# Usage: ./run-llama33-64k.sh            start it; it is reachable on http://127.0.0.1:8000
#        docker logs -f llama33-64k
#        docker rm -f llama33-64k
set -euo pipefail
cd "$(dirname "$0")"

# Secrets come from a file that only you can read, never from the command line.
env_file=llama33-64k.env
if [[ ! -e $env_file ]]; then
  (umask 077 && printf '%s\n' 'HF_TOKEN=' 'VLLM_API_KEY=' >"$env_file")
  echo "wrote $env_file: put HF_TOKEN and VLLM_API_KEY there where needed" >&2
fi
chmod 600 "$env_file"

started=$(date +%s)
docker run \
  --detach \
  --name llama33-64k \
  --label io.leadline.service=llama33-64k \
  --init \
  --restart unless-stopped \
  --publish 127.0.0.1:8000:8000 \
  --device /dev/neuron0 \
  --device /dev/neuron1 \
  --device /dev/neuron2 \
  --device /dev/neuron3 \
  --device /dev/neuron4 \
  --device /dev/neuron5 \
  --device /dev/neuron6 \
  --device /dev/neuron7 \
  --device /dev/neuron8 \
  --device /dev/neuron9 \
  --device /dev/neuron10 \
  --device /dev/neuron11 \
  --device /dev/neuron12 \
  --device /dev/neuron13 \
  --device /dev/neuron14 \
  --device /dev/neuron15 \
  --shm-size 17179869184 \
  --ulimit memlock=-1 \
  --ulimit stack=67108864 \
  --stop-timeout 75 \
  --log-opt max-size=100m --log-opt max-file=5 \
  --volume leadline-weights:/root/.cache/huggingface \
  --volume llama33-64k-compiled:/root/.cache/neuron \
  --env-file "$env_file" \
  --env HF_HOME=/root/.cache/huggingface \
  --env NEURON_COMPILE_CACHE_URL=/root/.cache/neuron \
  --env VLLM_CACHE_ROOT=/root/.cache/neuron/vllm \
  --env NEURON_COMPILED_ARTIFACTS=/root/.cache/neuron/compiled-55dfef60c0ec \
  --env VLLM_NO_USAGE_STATS=1 \
  --env DO_NOT_TRACK=1 \
  --entrypoint vllm \
  public.ecr.aws/neuron/pytorch-inference-vllm-neuronx:0.13.0-neuronx-py312-sdk2.28.0-ubuntu24.04 \
  serve meta-llama/Llama-3.3-70B-Instruct \
  --served-model-name Llama-3.3-70B-Instruct \
  --host 0.0.0.0 \
  --port 8000 \
  --tensor-parallel-size 64 \
  --dtype bfloat16 \
  --max-model-len 65536 \
  --max-num-seqs 1 \
  --no-enable-prefix-caching \
  --additional-config '{"override_neuron_config":{"context_encoding_buckets":[256,512,1024,2048,4096,8192,16384,32768,65536],"token_generation_buckets":[256,512,1024,2048,4096,8192,16384,32768,65536]}}'

echo "starting; predicted 44.3 s to 1 h 05 min, given up after 7910 s" >&2
for ((waited = 0; waited < 7910; waited += 5)); do
  if curl --fail --silent --output /dev/null http://127.0.0.1:8000/health; then
    echo "ready after about $waited s: http://127.0.0.1:8000" >&2
    exit 0
  fi
  # One that ends is started again, and counts as running all the time.
  state=$(docker inspect --format '{{.State.Status}} {{.RestartCount}}' llama33-64k)
  if [[ $state != "running 0" ]]; then
    docker stop llama33-64k >/dev/null
    docker logs --tail 40 llama33-64k >&2
    # Until a second from now, for what happened in this one.
    docker events --since "$started" --until "$(($(date +%s) + 1))" \
      --filter container=llama33-64k --filter event=oom --filter event=die \
      --format '{{.Action}}{{with .Actor.Attributes.exitCode}}: exit code {{.}}{{end}}' >&2
    echo "llama33-64k ended while starting; it is stopped, docker rm llama33-64k removes it" >&2
    exit 2
  fi
  sleep 5
done
echo "not ready after 7910 s" >&2
exit 2
