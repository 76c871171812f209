"""Ways through a chat's tree of messages. Each is one query, however long the chat is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import CTE, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from server.storage.tables import chat_messages as table

# What is read at once, so that long messages do not fill the server's memory.
BATCH_BYTES: Final = 4 << 20
_BATCH_ROWS: Final = 500


class Step(NamedTuple):
    """A message on a path: its id, and its body's size in bytes."""

    id: str
    size: int


async def path_up(
    connection: AsyncConnection, chat: str, start: str, most: int | None = None
) -> Sequence[Step]:
    """The messages from ``start`` up to the root, ``start`` first.

    Args:
        most: How many of them; None: all.
    """
    columns = (table.c.id, table.c.size, table.c.parent)
    first = select(*columns, literal(1).label("depth")).where(
        table.c.chat_id == chat, table.c.id == start
    )
    path = first.cte("path", recursive=True)
    above = select(*columns, path.c.depth + 1).where(
        table.c.chat_id == chat, table.c.id == path.c.parent
    )
    if most is not None:
        above = above.where(path.c.depth < most)
    path = path.union_all(above)
    wanted = select(path.c.id, path.c.size).order_by(path.c.depth)
    return [Step(*row) for row in (await connection.execute(wanted)).all()]


def below(chat: str, start: str) -> CTE:
    """``start`` and all messages that follow it: their ids and positions."""
    columns = (table.c.id, table.c.position)
    first = select(*columns).where(table.c.chat_id == chat, table.c.id == start)
    tree = first.cte("tree", recursive=True)
    more = select(*columns).where(table.c.chat_id == chat, table.c.parent == tree.c.id)
    return tree.union_all(more)


async def tip(connection: AsyncConnection, chat: str, start: str) -> str | None:
    """The newest message among ``start`` and those that follow it; none follows that one.

    None: the chat has no message ``start``.
    """
    tree = below(chat, start)
    newest = select(tree.c.id).order_by(tree.c.position.desc()).limit(1)
    found: str | None = (await connection.execute(newest)).scalar_one_or_none()
    return found


async def newest(connection: AsyncConnection, chat: str) -> str | None:
    """The newest message of a chat; None: it is empty."""
    wanted = select(table.c.id).where(table.c.chat_id == chat)
    wanted = wanted.order_by(table.c.position.desc()).limit(1)
    found: str | None = (await connection.execute(wanted)).scalar_one_or_none()
    return found


async def children(
    connection: AsyncConnection, chat: str, parents: Collection[str | None]
) -> dict[str | None, list[str]]:
    """Parent → the ids of the messages that follow it, the oldest first; None: of the roots."""
    named = [parent for parent in parents if parent is not None]
    of: Any = table.c.parent.in_(named)
    if None in parents:
        of = or_(of, table.c.parent.is_(None))
    wanted = select(table.c.parent, table.c.id).where(table.c.chat_id == chat, of)
    found: dict[str | None, list[str]] = {}
    for parent, number in (await connection.execute(wanted.order_by(table.c.position))).all():
        found.setdefault(parent, []).append(number)
    return found


def batches(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """``steps`` in order, in parts that may be read at once; each has at least one."""
    begin = size = 0
    for at, step in enumerate(steps):
        size += step.size
        if at > begin and (size > BATCH_BYTES or at - begin == _BATCH_ROWS):
            yield steps[begin:at]
            begin, size = at, step.size
    if steps:
        yield steps[begin:]
