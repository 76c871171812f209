"""The tables. A change here needs a migration in ``migrations/versions``; a test compares them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect

_CASCADE: Final = "CASCADE"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Id(TypeDecorator[str]):
    """An id, as callers look for it too: one with NUL, which PostgreSQL refuses, is nobody's."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else value.replace("\0", "\ufffd")


# `body` is the object without its output; `alive_at` is when its server last said that it is at it.
responses = Table(
    "responses",
    metadata,
    Column("id", Id, primary_key=True),
    Column("owner", Text, nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("alive_at", Float, nullable=False),
    # No foreign key: a response outlives the one it followed.
    Column("previous_id", Id, nullable=True),
    Column("body", JSON, nullable=False),
)

response_items = Table(
    "response_items",
    metadata,
    Column("response_id", Id, ForeignKey(responses.c.id, ondelete=_CASCADE), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("is_output", Boolean, nullable=False),
    Column("item_id", Id, nullable=False),
    Column("item", JSON, nullable=False),
    Index(None, "owner", "item_id"),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("owner", Text, nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("labels", JSON, nullable=False),
)

conversation_items = Table(
    "conversation_items",
    metadata,
    Column(
        "conversation_id", Id, ForeignKey(conversations.c.id, ondelete=_CASCADE), primary_key=True
    ),
    Column("position", Integer, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("item_id", Id, nullable=False),
    Column("item", JSON, nullable=False),
    UniqueConstraint("conversation_id", "item_id"),
    Index(None, "owner", "item_id"),
)

# What a server's registry file lacks and was added while it ran. `registry` is the file's path: a
# database may be shared by servers of different ones.
added_entries = Table(
    "added_entries",
    metadata,
    Column("registry", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("entry", JSON, nullable=False),
)

# `folded` is the title as it is searched, `messages` how many there are, `last` the position of the
# newest one there ever was.
chats = Table(
    "chats",
    metadata,
    Column("id", Id, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("model", Text, nullable=True),
    Column("settings", JSON, nullable=False),
    Column("leaf", Id, nullable=True),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    # In the order of the list, so that a page of it is read and nothing is sorted.
    Index(None, "owner", "pinned", "updated", "id"),
)

# No foreign key on `parent`: SQLite deletes no chain of more than a thousand by itself. `folded`
# stands before `body`, for a search reads a row's beginning and not the rest of a long one. `size`
# is the body's, in bytes.
chat_messages = Table(
    "chat_messages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("chat_id", Id, ForeignKey(chats.c.id, ondelete=_CASCADE), nullable=False),
    Column("position", Integer, nullable=False),
    Column("parent", Id, nullable=True),
    Column("created", Float, nullable=False),
    Column("size", Integer, nullable=False),
    Column("folded", Text, nullable=False),
    Column("body", JSON, nullable=False),
    UniqueConstraint("chat_id", "position"),
    Index(None, "chat_id", "parent"),
)

chat_presets = Table(
    "chat_presets",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("presets", JSON, nullable=False),
)

# What the servers of one database sign with.
secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
