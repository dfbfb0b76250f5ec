"""vLLM on AWS Neuron: vLLM's server with the Neuron plugin.

Not run by us on a device: launch and answers are vLLM's own, the plugin's log lines are from its
source (vllm-neuron 0.4.1) and NxD Inference 0.8.
"""

from __future__ import annotations

from dataclasses import replace

from leadline.engines.vllm import VLLM

NEURON = replace(
    VLLM,
    name="neuron",
    source="vLLM's server; vllm-neuron 0.4.1 by its source",
    signature_path=None,  # by its routes it is vLLM
)
