"""Server-sent events from an iterator of encoded frames, and what to do when the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from typing import Generic, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.api.progress import LOOK_EVERY_S, LoadProgress

T = TypeVar("T")

# Proxies close connections that are silent for a minute; comments keep them open.
KEEP_ALIVE_S = 15.0
_AT_ONCE_S = 0.2
_COMMENT = b": keep-alive\n\n"
_HEADERS = {
    "cache-control": "no-cache",
    # nginx would otherwise collect the stream before passing it on.
    "x-accel-buffering": "no",
}


class Closable(Protocol):
    """What must be closed when a response ends."""

    async def aclose(self) -> None: ...


class ClientLeft(Exception):
    """The client closed the connection before there was an answer."""


class EventStream(Response):
    """Sends frames as they come; when the client leaves, the iterator is closed at once.

    Args:
        frames: Each is one or more complete events as bytes. The iterator must end by itself:
            errors inside a stream are events, not exceptions.
        headers: Further headers.
        source: What ``frames`` reads from, closed after it: closing an iterator that was never
            begun does nothing, and its own clean-up with it.
        keep_alive: What is sent into silence: a comment, or an event that clients pass over.
        progress: What is waited for until the first frame; takes the place of ``keep_alive``.
        keep_alive_seconds: Silence after which it is sent; None: `KEEP_ALIVE_S`.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        headers: Mapping[str, str] | None = None,
        *,
        source: Closable | None = None,
        keep_alive: bytes = _COMMENT,
        progress: LoadProgress | None = None,
        keep_alive_seconds: float | None = None,
    ) -> None:
        super().__init__(headers=_HEADERS | dict(headers or {}))
        del self.headers["content-length"]
        self._frames = frames
        self._source = source
        self._keep_alive_event = keep_alive
        self._progress = progress
        self._keep_alive_seconds = keep_alive_seconds or KEEP_ALIVE_S
        self._sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            if await self._send_all(receive, send):
                # Only now, with nobody else sending, so that no comment can follow the end.
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._frames.aclose()
            if self._source is not None:
                await self._source.aclose()

    async def _send_all(self, receive: Receive, send: Send) -> bool:
        """Whether all frames were sent: False when the client left."""
        self._sent_at = time.monotonic()
        sending = asyncio.create_task(self._send_frames(send))
        tasks = [
            sending,
            asyncio.create_task(_disconnected(receive)),
            asyncio.create_task(self._keep_alive(send)),
        ]
        if self._progress is not None:
            tasks.append(asyncio.create_task(self._tell(self._progress, send)))
        try:
            # Whatever is told beside the frames goes on for ever.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            complete = sending.done()
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return complete

    async def _send_frames(self, send: Send) -> None:
        async for frame in self._frames:
            self._progress = None
            await send({"type": "http.response.body", "body": frame, "more_body": True})
            self._sent_at = time.monotonic()

    async def _keep_alive(self, send: Send) -> None:
        while True:
            wait = self._sent_at + self._keep_alive_seconds - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                progress = self._progress
                event = self._keep_alive_event if progress is None else progress.comment()
                await send({"type": "http.response.body", "body": event, "more_body": True})
                self._sent_at = time.monotonic()

    async def _tell(self, progress: LoadProgress, send: Send) -> None:
        while True:
            # Not behind the first frame, which is the answer's beginning.
            if self._progress is not None and (event := progress.event()):
                await send({"type": "http.response.body", "body": event, "more_body": True})
                self._sent_at = time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)


class Begun(Generic[T]):
    """An iterator whose first item was waited for, so that an early failure still has a status.

    Not for ever: a model that is being loaded takes longer than some proxies wait. Then the stream
    begins without it, with comments that keep the connection open.
    """

    def __init__(self, items: AsyncGenerator[T, None]) -> None:
        self._items = items
        self._first = asyncio.ensure_future(_next(items))

    @classmethod
    async def begin(
        cls,
        request: Request,
        items: AsyncGenerator[T, None],
        *,
        seconds: float | None = None,
        at_once: bool = False,
    ) -> Begun[T]:
        """Wait until there is an item, or ``seconds`` (`KEEP_ALIVE_S`) have passed.

        Args:
            at_once: Only for as long as a ready model takes to refuse a request.

        Raises:
            ClientLeft: The client closed the connection first.
            Exception: What the iterator raised instead of its first item.
        """
        begun = cls(items)
        watcher = asyncio.create_task(_disconnected(request.receive))
        try:
            tasks = [begun._first, watcher]
            await asyncio.wait(
                tasks,
                timeout=_AT_ONCE_S if at_once else seconds or KEEP_ALIVE_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if begun._first.done():
                begun._first.result()
            elif watcher.done():
                raise ClientLeft
        except BaseException:
            await begun.aclose()
            raise
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        return begun

    async def wait(self) -> None:
        """Wait until there is an item, however long it takes.

        Raises:
            Exception: What the iterator raised instead of its first item.
        """
        await asyncio.shield(self._first)

    async def __aiter__(self) -> AsyncIterator[T]:
        first = await self._first
        if first:
            yield first[0]
            async for item in self._items:
                yield item

    async def aclose(self) -> None:
        """End the iterator, wherever it is."""
        self._first.cancel()
        await asyncio.gather(self._first, return_exceptions=True)
        await self._items.aclose()


async def _next(items: AsyncGenerator[T, None]) -> tuple[T] | tuple[()]:
    async for item in items:
        return (item,)
    return ()


async def until_disconnect(request: Request, work: Awaitable[T]) -> T:
    """``work``'s result; cancels it when the client leaves.

    Raises:
        ClientLeft: The client closed the connection first.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.create_task(_disconnected(request.receive))
    try:
        await asyncio.wait([task, watcher], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeft
    finally:
        for pending in (task, watcher):
            pending.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
