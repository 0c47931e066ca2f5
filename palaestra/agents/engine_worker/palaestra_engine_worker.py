"""What we add to vLLM's worker: a tied output head takes new weights on a CPU, too.

vLLM imports this in its own process, perhaps in an environment without Palaestra: its folder alone is put on the module
search path there (`Engine`), and it imports nothing of ours.
"""

from __future__ import annotations

from typing import Any


class TiedHeads:
    """Mixed into vLLM's worker by `--worker-extension-cls`."""

    model_runner: Any  # the worker's own

    def palaestra_pack_heads(self) -> int:
        """Pack the weights of embeddings and heads again, after `reload_weights`; how many there are.

        The CPU build computes with packed copies of weights, and makes them where a layer loads some. A tied head loads
        none of its own, so that its copy would stay that of the weights before (seen with 0.32.0).
        """
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
        from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

        packed = 0
        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, VocabParallelEmbedding) and hasattr(layer, "cpu_linear"):
                dispatch_cpu_unquantized_gemm(layer, remove_weight=False)
                packed += 1
        return packed
