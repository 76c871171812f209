"""`Engine` over vLLM's ``AsyncLLM``. Measured facts behind each step: vLLM 0.32."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from server.engines import constraints, vllm_process, vllm_values
from server.engines.adapters import AdapterShelf
from server.engines.base import (
    Delta,
    EmbeddingRequest,
    GenerationRequest,
    SamplingSettings,
    Vector,
)
from server.engines.output import OutputFormat
from server.engines.plan import EnginePlan, check_free
from server.engines.spec import Adapter, EngineSpec
from server.engines.vllm_adapters import VllmAdapters
from server.engines.vllm_errors import translated
from server.engines.vllm_parsers import VllmOutputFormat
from server.errors import EngineDied, GenerationFailed

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

# One thread, so that one engine is built at a time: vLLM reads process-wide state (os.environ,
# current config) meanwhile.
_LOADER = ThreadPoolExecutor(1, thread_name_prefix="load")
# Longest a stopping engine may take before its process is killed; below 10 s vLLM leaks threads.
_STOP_TIMEOUT_S = 10.0
# Before every request that a caller may send.
_FIRST = -(1 << 31)


class VllmEngine:
    """One base model in one vLLM engine.

    Args:
        spec: What to host.
        plan: How, decided for this machine.
        log_file: Receives the engine process's output; its last lines explain a failed load.
    """

    def __init__(self, spec: EngineSpec, plan: EnginePlan, *, log_file: Path | None = None) -> None:
        self._spec = spec
        self._plan = plan
        self._log_file = log_file
        self._llm: AsyncLLM | None = None
        self._processes: list[BaseProcess] = []
        self._formats: dict[str | None, OutputFormat] = {}
        self._progress = 0
        self._probes = 0
        self._sleep_level: Literal[1, 2] = 1
        self._adapters = VllmAdapters(spec)
        self.shelf = AdapterShelf(self, spec.max_adapters)

    async def start(self) -> None:
        """Load in a thread, then send one request of each kind that compiles something at first."""
        check_free(self._spec.name, self._plan)
        try:
            self._llm = await asyncio.get_running_loop().run_in_executor(_LOADER, self._load)
            await self._warm_up()
        except asyncio.CancelledError:
            self._kill()
            raise
        except Exception as error:
            await self.stop()
            cause = self._cause(error)
            raise EngineDied(f"'{self._spec.name}' could not be loaded: {cause}") from error

    async def stop(self) -> None:
        """End what runs, then shut down, in a thread because it waits for the process."""
        llm, self._llm = self._llm, None
        await self.shelf.close()
        if llm is not None:
            _end_requests(llm)
            await asyncio.to_thread(llm.shutdown, _STOP_TIMEOUT_S)
        self._kill()

    def kill(self) -> None:
        """SIGKILL; AsyncLLM notices at once and ends what runs."""
        for process in self._processes:
            if process.is_alive():
                process.kill()

    @property
    def alive(self) -> bool:
        return self._llm is not None and not self._llm.errored

    @property
    def progress(self) -> int:
        return self._progress

    def cpu_seconds(self) -> float:
        """Of its processes and the workers below them; those that are gone count nothing."""
        total = 0.0
        for pid in self.pids:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                for member in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        times = member.cpu_times()
                        total += times.user + times.system
        return total

    async def probe(self) -> None:
        """See `Engine.probe`."""
        self._probes += 1
        name = f"probe-{self._probes}"
        if self._spec.embeds:
            await self.embed(
                EmbeddingRequest(request_id=name, prompt_token_ids=[5], priority=_FIRST)
            )
            return
        request = GenerationRequest(
            request_id=name,
            prompt_token_ids=[5],
            sampling=SamplingSettings(max_tokens=1, ignore_eos=True, temperature=0.0),
            priority=_FIRST,
        )
        async for _ in self.generate(request):
            pass

    @property
    def can_sleep(self) -> bool:
        return bool(self._plan.engine_args.get("enable_sleep_mode"))

    async def sleep(self, level: Literal[1, 2]) -> None:
        """See `Engine.sleep`."""
        self._sleep_level = level
        with self._or_died("put to sleep"):
            await self._running().sleep(level)

    async def wake(self) -> None:
        """See `Engine.wake`."""
        llm = self._running()
        with self._or_died("woken"):
            await llm.wake_up(["weights"])
            if self._sleep_level == 2:  # they were thrown away
                await llm.collective_rpc("reload_weights")
            await llm.wake_up(["kv_cache"])

    @contextlib.contextmanager
    def _or_died(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise EngineDied(
                f"The engine of '{self._spec.name}' could not be {what}: {error}"
            ) from error

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the engine's processes."""
        return tuple(process.pid for process in self._processes if process.pid is not None)

    def describe(self) -> Mapping[str, str]:
        return {choice.name: f"{choice.value} ({choice.reason})" for choice in self._plan.choices}

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        """See `Engine.generate`."""
        from vllm.inputs import tokens_input

        llm = self._running()
        lora_request = self._adapters.request(request.adapter)
        constraint = request.sampling.constraint
        param = None if constraint is None else constraint.param
        try:
            with translated(self._spec.name, param, stopped=lambda: self._llm is not llm):
                outputs = llm.generate(
                    tokens_input(list(request.prompt_token_ids), cache_salt=request.cache_salt),
                    await _sampling_params(llm, request.sampling),
                    request.request_id,
                    lora_request=lora_request,
                    priority=request.priority,
                    reasoning_ended=request.reasoning_ended,
                )
                async with contextlib.aclosing(outputs):
                    async for output in outputs:
                        for delta in _deltas(output, request):
                            self._progress += len(delta.token_ids)
                            yield delta
        except GenerationFailed as error:
            if constraint is None:
                raise
            raise constraints.not_kept(constraint) from error

    async def embed(self, request: EmbeddingRequest) -> Vector:
        """See `Engine.embed`."""
        from vllm.inputs import tokens_input

        llm = self._running()
        with translated(self._spec.name, "dimensions", stopped=lambda: self._llm is not llm):
            outputs = llm.encode(
                tokens_input(list(request.prompt_token_ids)),
                vllm_values.pooling_params(request.dimensions),
                request.request_id,
                lora_request=self._adapters.request(request.adapter),
                priority=request.priority,
            )
            async with contextlib.aclosing(outputs):
                vector = vllm_values.vector(await anext(outputs))
                self._progress += len(request.prompt_token_ids)
                return vector

    async def load_adapter(self, adapter: Adapter) -> None:
        """See `Engine.load_adapter`."""
        llm = self._running()
        with translated(self._spec.name, None, stopped=lambda: self._llm is not llm):
            await self._adapters.load(llm, adapter)

    async def unload_adapter(self, adapter: Adapter) -> None:
        """See `Engine.unload_adapter`."""
        llm = self._running()
        with translated(self._spec.name, None, stopped=lambda: self._llm is not llm):
            await self._adapters.unload(llm, adapter)

    async def output_format(self, tool_parser: str | None) -> OutputFormat:
        """See `Engine.output_format`; each is made once."""
        made = self._formats.get(tool_parser)
        if made is None:
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(_LOADER, self._make_format, tool_parser)
        return made

    def _make_format(self, tool_parser: str | None) -> OutputFormat:
        if tool_parser not in self._formats:
            self._formats[tool_parser] = VllmOutputFormat(
                self._spec.name,
                self._running().renderer.get_tokenizer(),
                tool_parser,
                self._spec.reasoning_parser,
            )
        return self._formats[tool_parser]

    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineDied(f"The engine of '{self._spec.name}' is not running.")
        return self._llm

    def _load(self) -> AsyncLLM:
        with vllm_process.environment(self._plan):
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            config = AsyncEngineArgs(**self._plan.engine_args).create_engine_config()
            with vllm_process.ours(
                self._plan,
                self._log_file,
                self._processes,
                empty_blocks=self._plan.device == "cpu" and self._spec.max_adapters > 0,
            ):
                llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        # It would parse grammars on the event loop; `_sampling_params` has done so in a thread.
        llm.input_processor.structured_outputs_config = None
        return llm

    async def _warm_up(self) -> None:
        if self._spec.embeds:
            await self.embed(EmbeddingRequest(request_id="warm-up", prompt_token_ids=[5] * 8))
            return
        for number, logprobs in enumerate((None, 1)):
            sampling = SamplingSettings(
                max_tokens=2, ignore_eos=True, temperature=1.0, top_p=0.9, logprobs=logprobs
            )
            request = GenerationRequest(
                request_id=f"warm-up-{number}", prompt_token_ids=[5] * 8, sampling=sampling
            )
            async for _ in self.generate(request):
                pass

    def _kill(self) -> None:
        self.kill()
        self._processes.clear()

    def _cause(self, error: Exception) -> str:
        """The error, and what the engine's process last logged about it."""
        text = str(error).strip() or type(error).__name__
        if self._log_file is None or not self._log_file.exists():
            return text
        lines = self._log_file.read_text(errors="replace").splitlines()
        # vLLM logs every traceback line with its own prefix; the exception itself stands last.
        causes = [line for line in lines[-200:] if "Error: " in line]
        last = causes[-1].split("] ", 1)[-1].strip() if causes else ""
        return f"{last or text} (log: {self._log_file})"


def _end_requests(llm: AsyncLLM) -> None:
    """Raise in every running generator: a shutdown ends what feeds them, and tells nobody."""
    from vllm.v1.engine.exceptions import EngineDeadError

    llm.output_processor.propagate_error(EngineDeadError(suppress_context=True))


async def _sampling_params(llm: AsyncLLM, sampling: SamplingSettings) -> Any:
    params = vllm_values.sampling_params(sampling)
    if sampling.constraint is not None:
        tokenizer = llm.renderer.get_tokenizer()
        await asyncio.to_thread(constraints.check, params, sampling.constraint, tokenizer)
    return params


def _deltas(output: RequestOutput, request: GenerationRequest) -> Iterator[Delta]:
    cached = output.num_cached_tokens or 0
    about_prompt = output.prompt_logprobs
    for completion in output.outputs:
        delta = vllm_values.delta(completion, cached)
        if about_prompt:
            delta.prompt_logprobs = vllm_values.prompt_logprobs(
                about_prompt, request.prompt_token_ids
            )
        yield delta
