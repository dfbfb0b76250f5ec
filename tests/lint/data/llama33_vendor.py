# The vendor's offline example for Llama-3.3-70B on Trainium2, with the arguments that it printed
# until SDK 2.28 (2026-02), long after vLLM had taken them away.

from vllm import LLM, SamplingParams

llm = LLM(
    model="meta-llama/Llama-3.3-70B-Instruct",
    tensor_parallel_size=64,
    max_num_seqs=1,
    max_model_len=16384,
    device="neuron",
    use_v2_block_manager=True,
    override_neuron_config={},
)
outputs = llm.generate(["The future of AI is"], SamplingParams(top_k=1))
