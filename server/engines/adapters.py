"""Which adapters an engine holds: brought at first use, kept while in use, given up when unused.

An engine has room for a few. A request holds its adapter for as long as it runs. One that is not
there takes a free place, or that of the adapter that has been unused for longest; where requests
use all of them, it waits its turn, and requests that come later for the others wait behind it, so
that adapters in steady use cannot keep it out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from server.engines.spec import Adapter
from server.errors import AdapterFailed, CorralError, EngineDied, ModelLoading, Overloaded

# One that failed is not tried again sooner, so that it costs its callers and the engine nothing.
RETRY_AFTER_S = 10.0
_STOPPED = "The engine was stopped."


class AdapterHost(Protocol):
    """The part of an engine that a shelf needs; see `Engine`."""

    async def load_adapter(self, adapter: Adapter) -> None: ...

    async def unload_adapter(self, adapter: Adapter) -> None: ...


@dataclass(slots=True)
class _Place:
    """An adapter that the engine holds."""

    adapter: Adapter
    holders: int = 0
    """Requests that use it, those that are about to included."""
    used: int = 0
    """When it was last let go of, on the shelf's own clock."""


@dataclass(slots=True)
class _Ticket:
    """Requests that wait for one adapter."""

    adapter: Adapter
    waiting: int = 0
    granted: asyncio.Future[_Place] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class AdapterShelf:
    """The adapters of one engine.

    Args:
        host: The engine.
        capacity: Most adapters held at the same time.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, host: AdapterHost, capacity: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host = host
        self._capacity = capacity
        self._clock = clock
        self._places: dict[str, _Place] = {}
        self._tickets: dict[str, _Ticket] = {}
        self._failed: dict[str, tuple[str, float]] = {}
        self._letting_go = 0
        self._freed = asyncio.Event()
        self._full = False
        self._closed = False
        self._serving: asyncio.Task[None] | None = None

    @property
    def held(self) -> list[Adapter]:
        """The adapters that the engine holds now."""
        return [place.adapter for place in self._places.values()]

    @asynccontextmanager
    async def hold(self, adapter: Adapter, *, wait_seconds: float) -> AsyncGenerator[None, None]:
        """Have the engine hold an adapter meanwhile.

        Raises:
            AdapterFailed: The engine cannot take it.
            Overloaded: Requests used every place for ``wait_seconds``.
            ModelLoading: It was not ready after ``wait_seconds``; loading goes on.
            EngineDied: The engine is gone.
        """
        place = await self._take(adapter, wait_seconds)
        try:
            yield
        finally:
            self._let_go(place)

    async def close(self) -> None:
        """Bring nothing from now on; who waits is told that the engine is gone."""
        self._closed = True
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)

    async def _take(self, adapter: Adapter, wait_seconds: float) -> _Place:
        if self._closed:
            raise EngineDied(_STOPPED)
        if not self._capacity:
            raise AdapterFailed(adapter.name, "The engine was started without room for adapters.")
        self._refuse_known_failure(adapter)
        place = self._places.get(adapter.digest)
        if place is not None and not self._full:
            place.holders += 1
            return place
        ticket = self._tickets.get(adapter.digest)
        if ticket is None:
            ticket = self._tickets[adapter.digest] = _Ticket(adapter)
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve(), name="bring adapters")
        return await self._granted(ticket, adapter, wait_seconds)

    async def _granted(self, ticket: _Ticket, adapter: Adapter, wait_seconds: float) -> _Place:
        """The place, once it is this ticket's turn."""
        ticket.waiting += 1
        try:
            await asyncio.wait([ticket.granted], timeout=wait_seconds)
        except asyncio.CancelledError:
            self._leave(ticket)
            raise
        if not ticket.granted.done():
            self._leave(ticket)
            raise self._too_long(adapter)
        error = ticket.granted.exception()
        if isinstance(error, AdapterFailed):
            self._refuse_known_failure(adapter)  # in this one's own name
        if error is not None:
            raise error
        return ticket.granted.result()

    def _leave(self, ticket: _Ticket) -> None:
        """Who waits gives up, perhaps in the moment in which the place was given."""
        ticket.waiting -= 1
        if ticket.granted.done() and ticket.granted.exception() is None:
            self._let_go(ticket.granted.result())
        self._freed.set()  # the turn may be that of somebody who has left

    def _too_long(self, adapter: Adapter) -> CorralError:
        if self._full:
            return Overloaded(
                f"All places for adapters ({self._capacity}) are in use, so '{adapter.name}' "
                "cannot be loaded. Try again shortly.",
                retry_after=5.0,
            )
        return ModelLoading(
            adapter.name,
            f"The adapter of '{adapter.name}' is still loading. Try again shortly.",
            retry_after=5.0,
        )

    def _let_go(self, place: _Place) -> None:
        place.holders -= 1
        self._letting_go += 1
        place.used = self._letting_go
        self._freed.set()

    def _refuse_known_failure(self, adapter: Adapter) -> None:
        message, retry_at = self._failed.get(adapter.digest, ("", 0.0))
        pause = retry_at - self._clock()
        if pause > 0:
            raise AdapterFailed(adapter.name, message, retry_after=pause)

    async def _serve(self) -> None:
        """Give tickets their places, one after another."""
        try:
            while self._tickets:
                digest, ticket = next(iter(self._tickets.items()))
                await self._serve_one(ticket)
                del self._tickets[digest]
        except asyncio.CancelledError:
            error = EngineDied(_STOPPED)
            for ticket in self._tickets.values():
                _refuse(ticket, error)
            raise
        finally:
            self._serving = None

    async def _serve_one(self, ticket: _Ticket) -> None:
        try:
            place = self._places.get(ticket.adapter.digest) or await self._bring(ticket)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is who waits that must know
            if isinstance(error, AdapterFailed):
                retry_at = self._clock() + RETRY_AFTER_S
                self._failed[ticket.adapter.digest] = (str(error), retry_at)
            _refuse(ticket, error)
            return
        if place is not None:
            place.holders += ticket.waiting
            ticket.granted.set_result(place)

    async def _bring(self, ticket: _Ticket) -> _Place | None:
        """Load the ticket's adapter, once there is room; None if nobody waits for it any more."""
        try:
            while ticket.waiting and len(self._places) >= self._capacity:
                unused = [place for place in self._places.values() if not place.holders]
                if unused:
                    await self._give_up(min(unused, key=lambda place: place.used))
                    continue
                self._full = True
                self._freed.clear()
                await self._freed.wait()
        finally:
            self._full = False
        if not ticket.waiting:
            return None
        await self._host.load_adapter(ticket.adapter)
        self._failed.pop(ticket.adapter.digest, None)
        place = self._places[ticket.adapter.digest] = _Place(ticket.adapter)
        return place

    async def _give_up(self, place: _Place) -> None:
        # First, so that nobody takes it meanwhile.
        del self._places[place.adapter.digest]
        try:
            await self._host.unload_adapter(place.adapter)
        except BaseException:
            self._places[place.adapter.digest] = place  # its place is not free
            raise


def _refuse(ticket: _Ticket, error: Exception) -> None:
    ticket.granted.set_exception(error)
    ticket.granted.exception()  # nobody may be waiting
