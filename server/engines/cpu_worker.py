"""vLLM's CPU worker with this machine's threads and the flat LLaMA step."""

from __future__ import annotations

import time
from typing import Any

import torch
from vllm.logger import init_logger
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)
from vllm.utils.cpu_resource_utils import get_allowed_cpu_list, get_visible_memory_node
from vllm.v1.worker.cpu_worker import CPUWorker

from server.engines import cpu_llama, threads, weight_pages
from server.engines.cpu_rows import pair_single_rows

logger = init_logger(__name__)
# vLLM replaces torch.set_num_threads by a function that refuses; keep the real one.
_set_num_threads = torch.set_num_threads


class CorralCPUWorker(CPUWorker):
    """The worker named in ``worker_cls`` of every CPU engine."""

    def __init__(self, vllm_config: Any, local_rank: int, *args: Any, **kwargs: Any) -> None:
        self._cpus = vllm_config.additional_config.get("corral_cpus", [])
        # First, because vLLM takes its memory from the NUMA node of the first CPU it may use.
        threads.bind(self._cpus, local_rank)
        super().__init__(vllm_config, local_rank, *args, **kwargs)
        _open_memory_of_all_own_nodes()

    def init_device(self) -> None:
        """As vLLM's, then as many OpenMP threads as the plan says and the machine bears."""
        super().init_device()
        # Workers that are bound have cores of their own.
        sharing = 1 if self._cpus else self.parallel_config.local_world_size
        self._governor = threads.ThreadGovernor(
            self.vllm_config.additional_config["corral_threads"],
            _set_num_threads,
            sharing=sharing,
            own_cpu=time.process_time if sharing == 1 else threads.cpu_of_workers(),
        )

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """As vLLM's, then the flat step where the model is a plain LLaMA."""
        with weight_pages.let_go_when_read():
            super().load_model(*args, **kwargs)
        _unpack_embeddings(self.model_runner.model)
        paired = pair_single_rows(self.model_runner.model.modules())
        flat = cpu_llama.bind(self.model_runner.model, self.vllm_config)
        logger.info("flat LLaMA step: %s; layers that compute two rows at least: %d", flat, paired)

    def execute_model(self, scheduler_output: Any) -> Any:
        """One step; the thread count is looked at in between."""
        self._governor.before_step()
        return super().execute_model(scheduler_output)


def _open_memory_of_all_own_nodes() -> None:
    """Undo vLLM's strict binding to the first node where this worker's CPUs span several.

    A model that is too large for one node would be killed for want of memory while others have it.
    """
    allowed = get_visible_memory_node()
    nodes = sorted({cpu.numa_node for cpu in get_allowed_cpu_list()} & {*allowed})
    if len(nodes) > 1:
        torch.ops._C.init_cpu_memory_env(nodes)


def _unpack_embeddings(model: Any) -> None:
    """Drop the copy of the embeddings that vLLM packs for matrix products.

    It packs every matrix over the vocabulary, also one that only rows are taken of: 1 GB for
    Llama 3 8B. Models without a head of their own multiply by their embeddings, and keep it.
    """
    if not isinstance(getattr(model, "lm_head", None), ParallelLMHead):
        return
    for module in model.modules():
        if type(module) is VocabParallelEmbedding:
            module.__dict__.pop("cpu_linear", None)
