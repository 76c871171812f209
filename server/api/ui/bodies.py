"""Messages as they are kept, and as the page sees them."""

from __future__ import annotations

from typing import Any, Final

from server.api.schemas.ui import NewMessage, kept
from server.storage.chat_messages import Message

_TITLE: Final = 60


def message_body(message: NewMessage) -> dict[str, Any]:
    """What is kept of a message beside its place in the tree."""
    return {
        "role": message.role,
        "content": message.content,
        "reasoning": message.reasoning,
        "model": message.model,
        "params": message.params and kept(message.params),
        "usage": message.usage,
        "finish_reason": message.finish_reason,
        "error": message.error,
        "state": message.state,
    }


def shown_message(message: Message) -> dict[str, Any]:
    """A message as the page sees it."""
    place = {"id": message.id, "parent": message.parent}
    return {**place, **message.body, "created": message.created, "siblings": message.siblings}


def title_of(content: str) -> str:
    """The first line that says something, 60 characters of it; "" without any."""
    # A long text's beginning tells as much, and is split sooner.
    lines = (" ".join(line.split()) for line in content[:10_000].splitlines())
    first = next((line for line in lines if line), "")
    return first.replace("\x00", "")[:_TITLE].rstrip()
