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
# Usage: ./deploy-llama33-64k.sh up | status | logs | down       (kubectl's current context)
set -euo pipefail
cd "$(dirname "$0")"
namespace=default
env_file=llama33-64k.env

case "${1:-}" in
  up)
    kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace"
    if [[ -e $env_file ]]; then
      chmod 600 "$env_file"
      kubectl create secret generic llama33-64k-secrets --namespace "$namespace" \
        --from-env-file="$env_file" --dry-run=client --output=yaml | kubectl apply --filename=-
    fi
    kubectl apply --server-side --filename=llama33-64k.yaml
    kubectl rollout status deployment/llama33-64k --namespace "$namespace" \
      --timeout=12161s
    echo "kubectl port-forward --namespace $namespace service/llama33-64k 8000:80"
    ;;
  status)
    kubectl get pods,pvc,service --namespace "$namespace" --selector app.kubernetes.io/instance=llama33-64k
    kubectl get events --namespace "$namespace" --sort-by=.lastTimestamp | tail -20
    ;;
  logs)
    kubectl logs --namespace "$namespace" --selector app.kubernetes.io/instance=llama33-64k \
      --container server --follow --tail 200
    ;;
  down)
    # The claims keep weights and compiled code; delete them by hand to give the disks back.
    kubectl delete --namespace "$namespace" --ignore-not-found \
      deployment/llama33-64k service/llama33-64k \
      poddisruptionbudget/llama33-64k secret/llama33-64k-secrets
    ;;
  *)
    sed -n '2,/^set/p' "$0" | sed '$d' >&2
    exit 3
    ;;
esac
