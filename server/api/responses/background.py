"""Responses that are made whether or not somebody listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import structlog

from server.api.event_stream import Begun
from server.api.responses.run import Run, failure, keep_failure, stream
from server.engines.base import Delta
from server.errors import CorralError, GenerationFailed, Overloaded, ServerStopping, StorageFailed
from server.generation.calls import PreparedRequest
from server.generation.service import GenerationService
from server.storage import Storage
from server.storage.responses import OPEN, Record

log = structlog.get_logger(__name__)

_BEAT_S: Final = 10.0
# A server that was not heard of for so long is gone, and what it was making with it.
_SILENCE_S: Final = 60.0


class BackgroundRun:
    """One response under way; its events are kept until its end, for whoever comes to listen."""

    def __init__(self, run: Run, record: Record) -> None:
        self.run = run
        self.record = record
        self.task: asyncio.Task[None] | None = None
        self.reason: Exception | None = None
        self._events: list[bytes] = []
        self._changed = asyncio.Event()
        self._done = False

    def tell(self, events: list[bytes], *, done: bool = False) -> None:
        """Add events, in order from number 0."""
        self._events += events
        self._done = self._done or done
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self, after: int = -1) -> AsyncGenerator[bytes, None]:
        """Yield the events behind the one of this number, until the last."""
        at = after + 1
        while True:
            changed = self._changed
            if at < len(self._events):
                frame = b"".join(self._events[at:])
                at = len(self._events)
                yield frame
            elif self._done:
                return
            else:
                await changed.wait()


class BackgroundRuns:
    """Every response that this server makes in the background.

    Args:
        most: So many at once; more are refused.
    """

    def __init__(self, service: GenerationService, storage: Storage, *, most: int) -> None:
        self._service = service
        self._storage = storage
        self._most = most
        self._runs: dict[str, BackgroundRun] = {}
        self._beating: asyncio.Task[None] | None = None

    async def start(self, prepared: PreparedRequest, run: Run, record: Record) -> BackgroundRun:
        """Keep a queued response and begin to make it.

        Raises:
            Overloaded: Too many are under way.
            StorageFailed: It cannot be kept.
        """
        if len(self._runs) >= self._most:
            raise Overloaded(
                f"The server is making {len(self._runs)} responses in the background, which is its "
                "limit. Retry after a moment.",
                retry_after=5.0,
            )
        await self._storage.responses.add(record)
        one = BackgroundRun(run, record)
        one.tell(run.opening("response.created", "response.queued"))
        self._runs[record.body["id"]] = one
        one.task = asyncio.create_task(self._work(one, prepared))
        await asyncio.sleep(
            0
        )  # a task that was never begun would leave nothing tidy when cancelled
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat())
        return one

    def find(self, owner: str, number: str) -> BackgroundRun | None:
        """One that is under way here."""
        one = self._runs.get(number)
        return one if one is not None and one.record.owner == owner else None

    async def current(self, owner: str, number: str) -> dict[str, Any]:
        """A response as it is now, wherever it is or was made.

        Raises:
            ObjectNotFound: The owner has none of this id.
            StorageFailed: It cannot be read.
        """
        if (one := self.find(owner, number)) is not None:
            if one.run.response["status"] in OPEN:
                return one.run.response
            if one.task is not None:  # it has an end, which is told once it is kept
                await asyncio.wait([one.task])
        response = await self._storage.responses.get(owner, number)
        if response["status"] in OPEN:
            gone = failure(GenerationFailed("The server ended before the response did."))
            since = time.time() - _SILENCE_S
            if await self._storage.responses.end(owner, number, gone, silent_since=since):
                return response | gone
        return response

    async def cancel(self, owner: str, number: str) -> None:
        """End a response that is under way, here or at another server; nothing if it is not."""
        one = self.find(owner, number)
        if one is not None:
            await _end(one)
        else:
            await self._storage.responses.end(owner, number, {"status": "cancelled"})

    async def close(self) -> None:
        """End all of them, because the server stops."""
        if self._beating is not None:
            self._beating.cancel()
        await asyncio.gather(*(_end(one, ServerStopping()) for one in list(self._runs.values())))

    async def _work(self, one: BackgroundRun, prepared: PreparedRequest) -> None:
        async def keep() -> None:
            await self._storage.responses.finish(one.record)

        try:
            deltas = await self._begin(prepared)
            one.tell(one.run.begin())
            async with aclosing(stream(one.run, deltas, keep)) as frames:
                async for frame in frames:
                    one.tell(frame)
        except asyncio.CancelledError:
            if one.reason is None:
                one.run.cancel()
            else:
                one.run.fail(one.reason)
            await keep_failure(keep)
            one.tell(one.run.ending())
        except Exception as error:
            unknown = not isinstance(error, CorralError)
            log.warning("response failed", error=str(error), exc_info=unknown)
            one.run.fail(error)
            await keep_failure(keep)
            one.tell(one.run.ending())
        finally:
            del self._runs[one.record.body["id"]]
            one.tell([], done=True)

    async def _begin(self, prepared: PreparedRequest) -> Begun[Delta]:
        """The deltas once there is one; waits while the server is busy."""
        while True:
            deltas = Begun(self._service.run(prepared))
            try:
                await deltas.wait()
            except Overloaded as error:
                await asyncio.sleep(error.retry_after)
            except BaseException:
                await deltas.aclose()
                raise
            else:
                return deltas

    async def _beat(self) -> None:
        while self._runs:
            await asyncio.sleep(_BEAT_S)
            try:
                gone = await self._storage.responses.beat(set(self._runs))
            except StorageFailed as error:
                log.warning("running responses could not be marked", error=str(error))
                continue
            for number in gone & self._runs.keys():  # cancelled or deleted at another server
                task = self._runs[number].task
                if task is not None:
                    task.cancel()


async def _end(one: BackgroundRun, reason: Exception | None = None) -> None:
    one.reason = reason
    if one.task is not None:
        one.task.cancel()
        await asyncio.gather(one.task, return_exceptions=True)
