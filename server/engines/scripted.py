"""An `Engine` that plays a script: for tests of everything around an engine, never for users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

from server.engines.base import Delta, GenerationRequest
from server.errors import EngineDied

# What a script yields: a delta to send, seconds to wait, or an error to raise.
Step = Delta | float | Exception
Script = Callable[[GenerationRequest], Iterable[Step]]


class ScriptedEngine:
    """Plays ``script`` for every request and keeps what it was asked.

    Args:
        script: Maps a request to its steps.
        load_seconds: How long `start` takes.
        load_error: Raised by `start` instead of loading.
    """

    def __init__(
        self,
        script: Script,
        *,
        load_seconds: float = 0.0,
        load_error: Exception | None = None,
    ) -> None:
        self._script = script
        self._load_seconds = load_seconds
        self._load_error = load_error
        self.requests: list[GenerationRequest] = []
        self.aborted: list[str] = []
        self.alive = False

    async def start(self) -> None:
        await asyncio.sleep(self._load_seconds)
        if self._load_error is not None:
            raise self._load_error
        self.alive = True

    async def stop(self) -> None:
        self.alive = False

    def describe(self) -> Mapping[str, str]:
        return {"engine": "scripted"}

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        finished = False
        try:
            for step in self._script(request):
                if isinstance(step, EngineDied):
                    self.alive = False
                if isinstance(step, Exception):
                    finished = True
                    raise step
                if isinstance(step, Delta):
                    yield step
                else:
                    await asyncio.sleep(step)
            finished = True
        finally:
            if not finished:
                self.aborted.append(request.request_id)
