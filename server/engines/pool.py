"""When an engine lives: loaded at start or by the first request that needs it, once for all.

States of a slot::

    unloaded --load--> loading --ok--> ready --engine ends--> unloaded
                          |                                      (the next request loads it again)
                          +--error--> failed --after a pause, by the next request--> loading
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import structlog

from server.engines.base import Engine
from server.errors import CorralError, ModelFailed, ModelLoading

log = structlog.get_logger(__name__)

Status = Literal["unloaded", "loading", "ready", "failed"]
# Told by a loader what it is doing now, in a few words.
Report = Callable[[str], None]
# Brings a started engine; whatever it raises is the reason why the model failed.
Loader = Callable[[Report], Awaitable[Engine]]

# A model that failed is not tried again sooner, so that a broken one costs its callers no minutes.
RETRY_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class SlotState:
    """What is known of a slot now.

    Args:
        detail: What is being done while loading, or why it failed.
        since: Unix time at which ``status`` was entered.
        requests: Requests that hold the engine now.
    """

    status: Status
    detail: str
    since: float
    requests: int


class EngineSlot:
    """One engine that may or may not be loaded.

    Args:
        name: For errors: the id of a model that this engine serves.
        loader: Brings the engine.
    """

    def __init__(self, name: str, loader: Loader) -> None:
        self.name = name
        self._loader = loader
        self._engine: Engine | None = None
        self._loading: asyncio.Task[Engine] | None = None
        self._status: Status = "unloaded"
        self._detail = ""
        self._since = time.time()
        self._requests = 0
        self._closed = False
        self._retry_at = 0.0

    @property
    def state(self) -> SlotState:
        if self._status == "ready" and not self._alive():
            self._enter("unloaded", "the engine ended and will be loaded again on demand")
        return SlotState(self._status, self._detail, self._since, self._requests)

    @property
    def engine(self) -> Engine | None:
        """The engine if it is loaded and alive."""
        return self._engine if self._alive() else None

    def begin_loading(self) -> asyncio.Task[Engine]:
        """Start loading unless that is under way; must be called on the event loop."""
        if self._loading is None:
            self._enter("loading", "starting")
            self._loading = asyncio.create_task(self._load(), name=f"load {self.name}")
            # Nobody may be waiting for it: the state keeps the reason, the task need not shout.
            self._loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._loading

    @asynccontextmanager
    async def lease(self, *, wait_seconds: float) -> AsyncGenerator[Engine, None]:
        """Hold the engine for one request, loading it first where needed.

        Raises:
            ModelLoading: It was not ready after ``wait_seconds``; loading goes on.
            ModelFailed: It cannot be loaded; the message says why.
        """
        engine = self.engine or await self._loaded(wait_seconds)
        self._requests += 1
        try:
            yield engine
        finally:
            self._requests -= 1

    async def close(self) -> None:
        """Stop loading or serving and free the engine; nothing is loaded from now on."""
        self._closed = True
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()
        self._enter("unloaded", "")

    def _alive(self) -> bool:
        return self._engine is not None and self._engine.alive

    def _enter(self, status: Status, detail: str) -> None:
        self._status, self._detail, self._since = status, detail, time.time()

    async def _loaded(self, wait_seconds: float) -> Engine:
        pause = self._retry_at - time.monotonic()
        if self._status == "failed" and pause > 0:
            raise ModelFailed(self.name, self._detail, retry_after=pause)
        if self._closed:
            raise self._stopping()
        task = self.begin_loading()
        # Not awaited itself: a client that leaves must not stop the load that others wait for.
        await asyncio.wait([task], timeout=wait_seconds)
        if not task.done():
            raise ModelLoading(
                self.name,
                f"The model '{self.name}' is still loading ({self._detail}). Try again shortly.",
                retry_after=5.0,
            )
        if task.cancelled():
            raise self._stopping()
        error = task.exception()
        if error is not None:
            raise ModelFailed(self.name, _cause(error), retry_after=RETRY_AFTER_S) from error
        return task.result()

    def _stopping(self) -> ModelFailed:
        message = f"The model '{self.name}' is not loaded because the server is stopping."
        return ModelFailed(self.name, message)

    async def _load(self) -> Engine:
        def report(doing: str) -> None:
            self._detail = doing

        try:
            await self._discard_dead_engine()
            self._engine = engine = await self._loader(report)
        except asyncio.CancelledError:
            self._enter("unloaded", "")
            raise
        except Exception as error:
            self._retry_at = time.monotonic() + RETRY_AFTER_S
            self._enter("failed", _cause(error))
            log.warning(
                "loading failed",
                model=self.name,
                error=_cause(error),
                exc_info=not isinstance(error, CorralError),
            )
            raise
        else:
            self._enter("ready", "")
            return engine
        finally:
            self._loading = None

    async def _discard_dead_engine(self) -> None:
        dead, self._engine = self._engine, None
        if dead is not None:
            await dead.stop()


def _cause(error: BaseException) -> str:
    """Why loading failed; what nobody foresaw is named by its kind too."""
    return str(error) if isinstance(error, CorralError) else f"{type(error).__name__}: {error}"
