"""Texts as they are searched."""

from __future__ import annotations

import unicodedata

from sqlalchemy import Column, ColumnElement, exists, or_

from server.storage.tables import chat_messages, chats


def fold(text: str) -> str:
    """``text`` so that spellings a reader takes for one are one: case, full and half width.

    Done here and not by the databases: SQLite knows the case of ASCII alone, PostgreSQL that of its
    locale. Neither zero bytes, which PostgreSQL keeps in no text, nor anything else that is not
    there for the eye would be searched for.
    """
    return unicodedata.normalize("NFKC", text).casefold().replace("\x00", "")


def holds(query: str) -> ColumnElement[bool]:
    """Whether a chat's title or one of its messages holds ``query``, however it is written."""
    wanted = fold(query)
    in_messages = exists().where(
        chat_messages.c.chat_id == chats.c.id, _has(chat_messages.c.folded, wanted)
    )
    return or_(_has(chats.c.folded, wanted), in_messages)


def _has(column: Column[str], wanted: str) -> ColumnElement[bool]:
    return column.contains(wanted, autoescape=True)
