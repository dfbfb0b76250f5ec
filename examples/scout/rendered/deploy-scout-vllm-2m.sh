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
# Usage: ./deploy-scout-vllm-2m.sh up | status | logs | down       (kubectl's current context)
set -euo pipefail
cd "$(dirname "$0")"
namespace=default
env_file=scout-vllm-2m.env

case "${1:-}" in
  up)
    kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace"
    if [[ -e $env_file ]]; then
      chmod 600 "$env_file"
      kubectl create secret generic scout-vllm-2m-secrets --namespace "$namespace" \
        --from-env-file="$env_file" --dry-run=client --output=yaml | kubectl apply --filename=-
    fi
    kubectl apply --server-side --filename=scout-vllm-2m.yaml
    kubectl rollout status deployment/scout-vllm-2m --namespace "$namespace" \
      --timeout=6740s
    echo "kubectl port-forward --namespace $namespace service/scout-vllm-2m 8000:80"
    ;;
  status)
    kubectl get pods,pvc,service --namespace "$namespace" --selector app.kubernetes.io/instance=scout-vllm-2m
    kubectl get events --namespace "$namespace" --sort-by=.lastTimestamp | tail -20
    ;;
  logs)
    kubectl logs --namespace "$namespace" --selector app.kubernetes.io/instance=scout-vllm-2m \
      --container server --follow --tail 200
    ;;
  down)
    # The claims keep weights and compiled code; delete them by hand to give the disks back.
    kubectl delete --namespace "$namespace" --ignore-not-found \
      deployment/scout-vllm-2m service/scout-vllm-2m \
      poddisruptionbudget/scout-vllm-2m secret/scout-vllm-2m-secrets
    ;;
  *)
    sed -n '2,/^set/p' "$0" | sed '$d' >&2
    exit 3
    ;;
esac
