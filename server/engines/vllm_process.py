"""The processes that engines run in: how they are made, and what they inherit.

An engine's process is made under our own start method and entry point (`child.main`), so that it
dies with the server and logs to a file of its own. Measured facts behind each step: vLLM 0.32.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.forkserver
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

from server.engines import child
from server.engines.plan import EnginePlan

_PRELOAD = [
    "server.engines.forkserver_guard",
    "vllm.v1.engine.core",
    "vllm.model_executor.models.llama",
    "server.engines.cpu_worker",
]
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_STREAM": "ext://server.engines.vllm_process.log_stream",
    "VLLM_LOGGING_COLOR": "0",
    # The logprobs sampler is torch.compile'd even in eager mode: 16 s at its first use, and the end
    # of the engine where there is no compiler.
    "TORCH_COMPILE_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Workers are bound by `threads.bind`. vLLM's own way needs a NUMA node for each worker, and
    # pins every OpenMP thread, which the governor then cannot let leave a core.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


# Where vLLM's log handler writes, by this very name; in an engine's process stderr is its log file.
log_stream: TextIO = sys.stderr


def prepare(*, forkserver: bool, log_file: Path | None = None) -> None:
    """Make this process ready to load engines; call once, early, before vllm is imported, and
    from the main thread.

    With ``forkserver`` a helper process is started that imports vLLM while the server does, and
    from which engines are then forked in seconds. It has no threads and no client connections,
    which makes the fork safe; it ends with the server.

    Args:
        forkserver: Start the helper.
        log_file: Receives what vLLM in this process, the helper and multiprocessing's own tracker
            have to say; None leaves it to stderr.
    """
    global log_stream
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if log_file is not None:
        log_stream = log_file.open("a", encoding="utf-8", buffering=1)
    # What vLLM logs while it is imported comes before it has set up any handler.
    logger = logging.getLogger("vllm")
    logger.addHandler(logging.StreamHandler(log_stream))
    logger.propagate = False
    # At a first start, with adapters, it says that there is no Triton, of no use to a CPU.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    if forkserver:
        multiprocessing.forkserver.set_forkserver_preload(_PRELOAD)
        with _output_to(log_stream):
            multiprocessing.forkserver.ensure_running()


@contextlib.contextmanager
def _output_to(stream: TextIO) -> Iterator[None]:
    """Have processes that are started meanwhile write to ``stream``."""
    saved = {number: os.dup(number) for number in (1, 2)}
    for number in saved:
        os.dup2(stream.fileno(), number)
    try:
        yield
    finally:
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)


@contextlib.contextmanager
def ours(
    plan: EnginePlan,
    log_file: Path | None,
    processes: list[BaseProcess],
    *,
    empty_blocks: bool,
) -> Iterator[None]:
    """Have vLLM make the process of the engine that it starts meanwhile our way.

    Args:
        plan: How the engine is to run.
        log_file: Receives the process's output.
        processes: Receives what is made.
        empty_blocks: See `child.ChildSettings`.
    """
    from vllm.v1.engine import utils

    original = utils.get_mp_context
    settings = child.ChildSettings(
        os.getpid(), log_file, _gpu_environment(plan), empty_blocks=empty_blocks
    )
    context = _EngineContext(plan.start_method, settings, processes)
    utils.get_mp_context = lambda: context
    try:
        yield
    finally:
        utils.get_mp_context = original


class _EngineContext:
    """A multiprocessing context whose processes begin in `child.main`.

    vLLM asks its context for ``Process`` alone when it starts an engine of a text model.
    """

    def __init__(
        self, method: str, settings: child.ChildSettings, processes: list[BaseProcess]
    ) -> None:
        self._context = multiprocessing.get_context(method)
        self._settings = settings
        self._processes = processes

    def Process(  # noqa: N802  # the name vLLM calls
        self, *, target: Callable[..., None], name: str, kwargs: Mapping[str, Any]
    ) -> BaseProcess:
        process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=child.main,
            name=name,
            kwargs={"target": target, "kwargs": kwargs, "settings": self._settings},
        )
        self._processes.append(process)
        return process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


@contextlib.contextmanager
def environment(plan: EnginePlan) -> Iterator[None]:
    """What an engine inherits, and what vLLM looks at here while it sets one up: compilation if it
    is to compile, and the GPUs that it is to see. One engine is loaded at a time."""
    names = ("TORCH_COMPILE_DISABLE", *_gpu_environment(plan))
    before = {name: os.environ.get(name) for name in names}
    if plan.compile:
        os.environ.pop("TORCH_COMPILE_DISABLE", None)
    os.environ.update(_gpu_environment(plan))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _gpu_environment(plan: EnginePlan) -> Mapping[str, str]:
    if plan.visible is None:
        return {}
    # Numbers are nvidia-smi's, unless somebody has chosen another order already.
    order = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return {"CUDA_VISIBLE_DEVICES": plan.visible, "CUDA_DEVICE_ORDER": order}
