"""Responses with the items that went into them and came out of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, and_, delete, insert, literal, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from server.errors import ObjectNotFound
from server.storage.conversations import append_items
from server.storage.database import Database
from server.storage.items import Item, Page, PageQuery, fetch_page
from server.storage.tables import conversation_items, response_items, responses

Body = dict[str, Any]
# Statuses of a response that somebody is still working on.
OPEN: Final = ("queued", "in_progress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A response to be kept.

    Args:
        body: The whole object, its output included.
        inputs: What went in, each with an id.
        conversation_id: The conversation that its items are added to, or None.
    """

    owner: str
    body: Body
    inputs: Sequence[Item]
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """A response and all it followed.

    Args:
        items: Oldest first.
        status: Of the response itself.
        missing: Id of one that was deleted since, where the chain breaks off; None: it is whole.
    """

    items: Sequence[Item]
    status: str
    missing: str | None


class Responses:
    """The responses of a database. Every method may raise `StorageFailed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: Record) -> None:
        """Keep a response; one that is finished goes into its conversation too.

        Raises:
            ObjectNotFound, InvalidRequest: See `append_items`.
        """

        async def work(connection: AsyncConnection) -> None:
            await _insert(connection, record)
            if record.body["status"] not in OPEN:
                await _append(connection, record)

        await self._database.write(work)

    async def finish(self, record: Record) -> bool:
        """Replace a response that was added while it was open; False if it is open no more.

        Raises:
            ObjectNotFound, InvalidRequest: See `append_items`.
        """

        async def work(connection: AsyncConnection) -> bool:
            if await _open_body(connection, record.owner, record.body["id"]) is None:
                return False
            await _replace(connection, record.body)
            if outputs := _item_rows(record, record.body["output"], len(record.inputs), True):
                await connection.execute(insert(response_items), outputs)
            await _append(connection, record)
            return True

        return await self._database.write(work)

    async def end(
        self, owner: str, number: str, fields: Body, *, silent_since: float | None = None
    ) -> bool:
        """Change fields of an open response that then is open no more; False if it was not.

        Args:
            fields: Fields of the object, ``status`` among them.
            silent_since: Only if its server has not been heard of since (Unix time).
        """

        async def work(connection: AsyncConnection) -> bool:
            body = await _open_body(connection, owner, number, silent_since)
            if body is not None:
                await _replace(connection, body | fields)
            return body is not None

        return await self._database.write(work)

    async def beat(self, numbers: Collection[str]) -> set[str]:
        """Tell that these are being worked on; returns those of them that are open no more."""

        async def work(connection: AsyncConnection) -> set[str]:
            mine = and_(responses.c.id.in_(list(numbers)), responses.c.status.in_(OPEN))
            await connection.execute(update(responses).where(mine).values(alive_at=time.time()))
            return set((await connection.execute(select(responses.c.id).where(mine))).scalars())

        return set(numbers) - await self._database.write(work)

    async def get(self, owner: str, number: str) -> Body:
        """The whole object.

        Raises:
            ObjectNotFound: The owner has none of this id.
        """

        async def work(connection: AsyncConnection) -> Body:
            body = await _body(connection, owner, number)
            table = response_items
            wanted = select(table.c.item).where(_items_of(number, is_output=True))
            outputs = await connection.execute(wanted.order_by(table.c.position))
            return body | {"output": list(outputs.scalars())}

        return await self._database.read(work)

    async def delete(self, owner: str, number: str) -> None:
        """Forget a response and its items.

        Raises:
            ObjectNotFound: The owner has none of this id.
        """

        async def work(connection: AsyncConnection) -> None:
            await _body(connection, owner, number)
            await connection.execute(delete(responses).where(responses.c.id == number))

        await self._database.write(work)

    async def inputs(self, owner: str, number: str, query: PageQuery) -> Page:
        """Some of what went into a response.

        Raises:
            ObjectNotFound: The owner has none of this id.
            InvalidRequest: There is no item ``after``.
        """

        async def work(connection: AsyncConnection) -> Page:
            await _body(connection, owner, number)
            of = _items_of(number, is_output=False)
            return await fetch_page(connection, response_items, of, query)

        return await self._database.read(work)

    async def history(self, owner: str, number: str) -> History:
        """What a response that follows this one knows.

        Raises:
            ObjectNotFound: The owner has none of this id.
        """

        async def work(connection: AsyncConnection) -> History:
            links = list((await connection.execute(_chain(owner, number))).all())
            if not links:
                raise ObjectNotFound("Response", number)
            chain = _chain(owner, number).subquery()
            items = (
                select(response_items.c.item)
                .join(chain, chain.c.id == response_items.c.response_id)
                .order_by(chain.c.depth.desc(), response_items.c.position)
            )
            found = list((await connection.execute(items)).scalars())
            return History(found, links[0].status, links[-1].previous_id)

        return await self._database.read(work)

    async def find_items(self, owner: str, ids: Iterable[str]) -> dict[str, Item]:
        """Those of the items that there are, by id, out of responses and conversations."""
        wanted = list(ids)

        async def work(connection: AsyncConnection) -> dict[str, Item]:
            both = union_all(
                *(
                    select(table.c.item_id, table.c.item).where(
                        table.c.owner == owner, table.c.item_id.in_(wanted)
                    )
                    for table in (response_items, conversation_items)
                )
            )
            return {row.item_id: row.item for row in (await connection.execute(both)).all()}

        return await self._database.read(work)


def _chain(owner: str, number: str) -> Select[Any]:
    """A response and those it followed: id, previous_id, status, depth; the youngest first."""
    table = responses
    columns = (table.c.id, table.c.previous_id, table.c.status)
    youngest = select(*columns, literal(0).label("depth")).where(
        table.c.id == number, table.c.owner == owner
    )
    chain = youngest.cte("chain", recursive=True)
    older = (
        select(*columns, chain.c.depth + 1)
        .join(chain, table.c.id == chain.c.previous_id)
        .where(table.c.owner == owner)
    )
    chain = chain.union_all(older)
    return select(chain).order_by(chain.c.depth)


async def _insert(connection: AsyncConnection, record: Record) -> None:
    body = record.body
    row = {
        "id": body["id"],
        "owner": record.owner,
        "created_at": body["created_at"],
        "previous_id": body["previous_response_id"],
    }
    await connection.execute(insert(responses).values(**row, **_state(body)))
    rows = _item_rows(record, record.inputs, 0, False)
    rows += _item_rows(record, body["output"], len(rows), True)
    if rows:
        await connection.execute(insert(response_items), rows)


async def _append(connection: AsyncConnection, record: Record) -> None:
    # A failed one said nothing, and its input will come again.
    if record.conversation_id is not None and record.body["status"] != "failed":
        items = [*record.inputs, *record.body["output"]]
        await append_items(connection, record.owner, record.conversation_id, items)


async def _replace(connection: AsyncConnection, body: Body) -> None:
    where = update(responses).where(responses.c.id == body["id"])
    await connection.execute(where.values(**_state(body)))


def _state(body: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in body.items() if name != "output"}
    return {"status": body["status"], "alive_at": time.time(), "body": kept}


def _item_rows(
    record: Record, items: Sequence[Item], first: int, is_output: bool
) -> list[dict[str, Any]]:
    return [
        {
            "response_id": record.body["id"],
            "position": position,
            "owner": record.owner,
            "is_output": is_output,
            "item_id": item["id"],
            "item": item,
        }
        for position, item in enumerate(items, first)
    ]


async def _body(connection: AsyncConnection, owner: str, number: str) -> Body:
    wanted = select(responses.c.body).where(responses.c.id == number, responses.c.owner == owner)
    body: Body | None = (await connection.execute(wanted)).scalar_one_or_none()
    if body is None:
        raise ObjectNotFound("Response", number)
    return body


async def _open_body(
    connection: AsyncConnection, owner: str, number: str, silent_since: float | None = None
) -> Body | None:
    """The body of a response while it is open, locked until the transaction ends."""
    wanted = select(responses.c.body).where(
        responses.c.id == number, responses.c.owner == owner, responses.c.status.in_(OPEN)
    )
    if silent_since is not None:
        wanted = wanted.where(responses.c.alive_at < silent_since)
    body: Body | None = (await connection.execute(wanted.with_for_update())).scalar_one_or_none()
    return body


def _items_of(number: str, *, is_output: bool) -> Any:
    table = response_items
    return and_(table.c.response_id == number, table.c.is_output == is_output)
