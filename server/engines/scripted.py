"""An `Engine` that plays a script: for tests of everything around an engine, never for users."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from server.engines.adapters import AdapterShelf
from server.engines.base import Delta, EmbeddingRequest, GenerationRequest, Vector
from server.engines.output import OutputFormat
from server.engines.spec import Adapter
from server.errors import EngineDied

# What an embedding takes: steps of which the last is a vector.
Embedding: TypeAlias = "Callable[[EmbeddingRequest], Iterable[Vector | float | Exception]]"
# What a script yields: a delta to send, seconds to wait, or an error to raise.
Step = Delta | float | Exception
Script = Callable[[GenerationRequest], Iterable[Step]]


class ScriptedEngine:
    """Plays ``script`` for every request and keeps what it was asked.

    Args:
        script: Maps a request to its steps.
        load_seconds: How long `start` takes.
        load_error: Raised by `start` instead of loading.
        max_adapters: Most adapters held at the same time.

    Attributes:
        hangs: It answers no probe and takes no processor time.
        probes: How often it was asked whether it lives.
        can_sleep: Whether it can; ``asleep`` is the level at which it does, 0 while awake.
        adapter_error: Raised by the next loads of adapters.
        adapter_gate: Adapters are loaded while it is set, as it is at first.
        adapter_log: What happened to adapters: ``+`` and ``-`` with their names.
        embedding: Maps a request to seconds to wait, an error to raise, and at last its vector;
            by default that is (number of tokens, first token).
    """

    def __init__(
        self,
        script: Script,
        *,
        load_seconds: float = 0.0,
        load_error: Exception | None = None,
        max_adapters: int = 0,
    ) -> None:
        self._script = script
        self._load_seconds = load_seconds
        self._load_error = load_error
        self.format: OutputFormat | None = None
        self.requests: list[GenerationRequest] = []
        self.embedding: Embedding = _plain_embedding
        self.embedded: list[EmbeddingRequest] = []
        self.aborted: list[str] = []
        self.probes = 0
        self.hangs = False
        self.progress = 0
        self.can_sleep = False
        self.asleep = 0
        self.pids: tuple[int, ...] = ()
        self._ended = asyncio.Event()
        self._ended.set()
        self.adapter_error: Exception | None = None
        self.adapter_gate = asyncio.Event()
        self.adapter_gate.set()
        self.adapter_log: list[str] = []
        self.shelf = AdapterShelf(self, max_adapters)

    async def start(self) -> None:
        await asyncio.sleep(self._load_seconds)
        if self._load_error is not None:
            raise self._load_error
        self._ended.clear()

    async def stop(self) -> None:
        self._ended.set()
        await self.shelf.close()

    def kill(self) -> None:
        self._ended.set()

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    async def probe(self) -> None:
        self.probes += 1
        while self.hangs:
            await self.wait(1.0)
        if not self.alive:
            raise EngineDied("The script was ended.")

    def cpu_seconds(self) -> float:
        return float(self.probes and not self.hangs)

    async def sleep(self, level: Literal[1, 2]) -> None:
        self.asleep = level

    async def wake(self) -> None:
        self.asleep = 0

    async def wait(self, seconds: float) -> None:
        """Let time pass; ends with `EngineDied` as soon as the engine does."""
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return
        raise EngineDied("The script was ended.")

    def describe(self) -> Mapping[str, str]:
        return {"engine": "scripted"}

    async def output_format(self, tool_parser: str | None) -> OutputFormat:
        if self.format is None:
            raise EngineDied(f"There is no parser '{tool_parser}' in this script.")
        return self.format

    async def load_adapter(self, adapter: Adapter) -> None:
        await self.adapter_gate.wait()
        if self.adapter_error is not None:
            raise self.adapter_error
        self.adapter_log.append(f"+{adapter.name}")

    async def unload_adapter(self, adapter: Adapter) -> None:
        self.adapter_log.append(f"-{adapter.name}")

    async def embed(self, request: EmbeddingRequest) -> Vector:
        self.embedded.append(request)
        try:
            for step in self.embedding(request):
                if isinstance(step, EngineDied):
                    self.kill()
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, array):
                    return step
                await self.wait(step)
        except asyncio.CancelledError:
            self.aborted.append(request.request_id)
            raise
        raise EngineDied("The script of this embedding has no vector.")

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        finished = False
        try:
            for step in self._script(request):
                if isinstance(step, EngineDied):
                    self.kill()
                if isinstance(step, Exception):
                    finished = True
                    raise step
                if isinstance(step, Delta):
                    self.progress += len(step.token_ids)
                    yield step
                else:
                    await self.wait(step)
            finished = True
        except EngineDied:
            finished = True
            raise
        finally:
            if not finished:
                self.aborted.append(request.request_id)


def _plain_embedding(request: EmbeddingRequest) -> Iterable[Vector]:
    ids = request.prompt_token_ids
    vector = array("f", [len(ids), ids[0]])
    return [vector if request.dimensions is None else vector[: request.dimensions]]
