"""Several pieces of work that are one request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

# Pieces of one request that are under way at once, so that one caller cannot fill the server.
AT_ONCE = 64


async def gather(work: Callable[[S], Awaitable[T]], items: Iterable[S]) -> list[T]:
    """``work``'s results for all items, in their order, `AT_ONCE` at a time.

    Raises:
        Exception: The first failure, which ends the others: one answer has one status.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: S) -> T:
        async with gate:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
