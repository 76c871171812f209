"""The chat page's chats, messages and presets, and what its cookies are signed with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "chats",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("leaf", sa.Text(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("updated", sa.Float(), nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chats"),
    )
    order = ["owner", "pinned", "updated", "id"]
    op.create_index("ix_chats_owner_pinned_updated_id", "chats", order)
    _create_messages()
    op.create_table(
        "chat_presets",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("presets", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_chat_presets"),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )


def _create_messages() -> None:
    op.create_table(
        "chat_messages",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("chat_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_chat_messages"),
        sa.ForeignKeyConstraint(
            ["chat_id"], ["chats.id"], name="fk_chat_messages_chat_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("chat_id", "position", name="uq_chat_messages_chat_id_position"),
    )
    op.create_index("ix_chat_messages_chat_id_parent", "chat_messages", ["chat_id", "parent"])


def downgrade() -> None:
    """Take it back."""
    for table in ("secrets", "chat_presets", "chat_messages", "chats"):
        op.drop_table(table)
