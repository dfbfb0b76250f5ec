#!/usr/bin/env bash
# Llama-4-Scout-17B-16E-Instruct on sglang 0.5.6.post2
# Made by `leadline render scout.yaml`: change the campaign, not this file.
#
# plan: fits(1); longest prompt 2,096,950 tokens with 200 of output
# 25.1 GiB of weights and 80.1 GiB of KV cache on each of 8 devices: 3,500,000 tokens, 1.67x
# a cold prompt of 2,096,950 tokens is predicted to take 3 min 13 s (2 min 34 s to 6 min 46 s)
# plan warns: not looked at by the plan: disable_radix_cache
#
# Usage: ./deploy-scout-sglang-2m.sh up | status | logs | down       (kubectl's current context)
set -euo pipefail
cd "$(dirname "$0")"
namespace=default
env_file=scout-sglang-2m.env

case "${1:-}" in
  up)
    kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace"
    if [[ -e $env_file ]]; then
      chmod 600 "$env_file"
      kubectl create secret generic scout-sglang-2m-secrets --namespace "$namespace" \
        --from-env-file="$env_file" --dry-run=client --output=yaml | kubectl apply --filename=-
    fi
    kubectl apply --server-side --filename=scout-sglang-2m.yaml
    kubectl rollout status deployment/scout-sglang-2m --namespace "$namespace" \
      --timeout=6740s
    echo "kubectl port-forward --namespace $namespace service/scout-sglang-2m 8000:80"
    ;;
  status)
    kubectl get pods,pvc,service --namespace "$namespace" --selector app.kubernetes.io/instance=scout-sglang-2m
    kubectl get events --namespace "$namespace" --sort-by=.lastTimestamp | tail -20
    ;;
  logs)
    kubectl logs --namespace "$namespace" --selector app.kubernetes.io/instance=scout-sglang-2m \
      --container server --follow --tail 200
    ;;
  down)
    # The claims keep weights and compiled code; delete them by hand to give the disks back.
    kubectl delete --namespace "$namespace" --ignore-not-found \
      deployment/scout-sglang-2m service/scout-sglang-2m \
      poddisruptionbudget/scout-sglang-2m secret/scout-sglang-2m-secrets
    ;;
  *)
    sed -n '2,/^set/p' "$0" | sed '$d' >&2
    exit 3
    ;;
esac
