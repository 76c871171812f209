"""Pages of the items that belong to one response or conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from server.errors import InvalidRequest

Item = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """Which items are wanted.

    Args:
        limit: Most items of the page.
        descending: Whether the newest come first.
        after: Id of the item before the page's first, or None.
    """

    limit: int = 20
    descending: bool = True
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some items, and whether there are more behind them."""

    items: Sequence[Item]
    has_more: bool


async def fetch_page(
    connection: AsyncConnection, table: Table, of: ColumnElement[bool], query: PageQuery
) -> Page:
    """One page of the items that ``of`` picks.

    Raises:
        InvalidRequest: There is no item ``after``.
    """
    order = table.c.position.desc() if query.descending else table.c.position.asc()
    wanted = select(table.c.item).where(of).order_by(order).limit(query.limit + 1)
    if query.after is not None:
        found = select(table.c.position).where(of, table.c.item_id == query.after).limit(1)
        position = (await connection.execute(found)).scalar_one_or_none()
        if position is None:
            raise InvalidRequest(f"There is no item '{query.after}' here.", param="after")
        beyond = table.c.position < position if query.descending else table.c.position > position
        wanted = wanted.where(beyond)
    items = list((await connection.execute(wanted)).scalars())
    return Page(items[: query.limit], len(items) > query.limit)
