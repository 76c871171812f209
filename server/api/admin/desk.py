"""What the routes of the admin API share, and what goes on beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request

from server.api.admin.access import AdminDoor
from server.api.admin.options import AdminOptions
from server.api.auth import KeyRing
from server.engines.memory import Meter
from server.errors import ServerStopping
from server.generation.herd import Herd
from server.generation.keeper import RegistryKeeper
from server.generation.operating import Operator
from server.generation.watch import EVERY_S, reload_when_told
from server.storage import AddedEntries

T = TypeVar("T")

# Requests for added models would be told that there are none: so long the database is waited for.
_OPEN_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.5


class Desk:
    """Operates a herd and its registry.

    Args:
        herd: The models.
        added: Keeps added entries.
        options: See `AdminOptions`.
        api_keys: The API keys, the admin's among them.
    """

    def __init__(
        self, herd: Herd, added: AddedEntries, options: AdminOptions, api_keys: KeyRing
    ) -> None:
        self.herd = herd
        self.options = options
        self.operator = Operator(herd)
        self.keeper = RegistryKeeper(herd, self.operator, added, options.registry)
        self.door = AdminDoor(KeyRing(options.keys), api_keys, local=options.local)
        self.meter = Meter()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, *, every: float = EVERY_S) -> None:
        """Serve what was added in former runs, and watch the registry file.

        Args:
            every: Seconds between two looks at the file.
        """
        path = self.options.registry if self.options.watch else None
        opening = asyncio.create_task(self.keeper.keep_opening())
        watching = reload_when_told(self.keeper.reload, self.options.reload, path, every=every)
        self._tasks = [opening, asyncio.create_task(watching)]
        await asyncio.wait([opening], timeout=_OPEN_WITHIN_S)

    async def close(self) -> None:
        """End what goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.operator.close()

    async def unless_stopping(self, work: Awaitable[T]) -> T:
        """``work``'s result; cancels it when the server is to end.

        Raises:
            ServerStopping: It is.
        """
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                if self.options.stopping():
                    raise ServerStopping
                await asyncio.wait([task], timeout=_LOOK_EVERY_S)
            return task.result()
        finally:
            task.cancel()


def _desk(request: Request) -> Desk:
    return cast("Desk", request.app.state.desk)


AtDesk = Annotated[Desk, Depends(_desk)]
