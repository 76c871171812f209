"""Responses and conversations with their items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "responses",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("alive_at", sa.Float(), nullable=False),
        sa.Column("previous_id", sa.Text(), nullable=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_responses"),
    )
    op.create_index("ix_responses_owner", "responses", ["owner"])
    op.create_table(
        "conversations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
    )
    op.create_index("ix_conversations_owner", "conversations", ["owner"])
    _create_items("response", sa.Column("is_output", sa.Boolean(), nullable=False))
    _create_items(
        "conversation",
        sa.UniqueConstraint(
            "conversation_id", "item_id", name="uq_conversation_items_conversation_id_item_id"
        ),
    )


def _create_items(parent: str, *more: sa.schema.SchemaItem) -> None:
    table = f"{parent}_items"
    op.create_table(
        table,
        sa.Column(f"{parent}_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("item", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint(f"{parent}_id", "position", name=f"pk_{table}"),
        sa.ForeignKeyConstraint(
            [f"{parent}_id"], [f"{parent}s.id"], name=f"fk_{table}_{parent}_id", ondelete="CASCADE"
        ),
        *more,
    )
    op.create_index(f"ix_{table}_owner_item_id", table, ["owner", "item_id"])


def downgrade() -> None:
    """Take it back."""
    for table in ("conversation_items", "response_items", "conversations", "responses"):
        op.drop_table(table)
