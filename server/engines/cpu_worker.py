"""vLLM's CPU worker with this machine's threads and the flat LLaMA step."""

from __future__ import annotations

from typing import Any

import torch
from vllm.logger import init_logger
from vllm.v1.worker.cpu_worker import CPUWorker

from server.engines import cpu_llama
from server.engines.threads import ThreadGovernor

logger = init_logger(__name__)
# vLLM replaces torch.set_num_threads by a function that refuses; keep the real one.
_set_num_threads = torch.set_num_threads


class CorralCPUWorker(CPUWorker):
    """The worker named in ``worker_cls`` of every CPU engine."""

    def init_device(self) -> None:
        """As vLLM's, then as many OpenMP threads as the plan says and the machine bears."""
        super().init_device()
        self._governor = ThreadGovernor(
            self.vllm_config.additional_config["corral_threads"], _set_num_threads
        )

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """As vLLM's, then the flat step where the model is a plain LLaMA."""
        super().load_model(*args, **kwargs)
        flat = cpu_llama.bind(self.model_runner.model, self.vllm_config)
        logger.info("flat LLaMA step: %s", flat)

    def execute_model(self, scheduler_output: Any) -> Any:
        """One step; the thread count is looked at in between."""
        self._governor.before_step()
        return super().execute_model(scheduler_output)
