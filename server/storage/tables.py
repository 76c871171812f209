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
    UniqueConstraint,
)

_CASCADE: Final = "CASCADE"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# `body` is the object without its output; `alive_at` is when its server last said that it is at it.
responses = Table(
    "responses",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("alive_at", Float, nullable=False),
    # No foreign key: a response outlives the one it followed.
    Column("previous_id", Text, nullable=True),
    Column("body", JSON, nullable=False),
)

response_items = Table(
    "response_items",
    metadata,
    Column("response_id", Text, ForeignKey(responses.c.id, ondelete=_CASCADE), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("is_output", Boolean, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("item", JSON, nullable=False),
    Index(None, "owner", "item_id"),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("labels", JSON, nullable=False),
)

conversation_items = Table(
    "conversation_items",
    metadata,
    Column(
        "conversation_id", Text, ForeignKey(conversations.c.id, ondelete=_CASCADE), primary_key=True
    ),
    Column("position", Integer, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("item", JSON, nullable=False),
    UniqueConstraint("conversation_id", "item_id"),
    Index(None, "owner", "item_id"),
)
