"""Objects to store."""

from __future__ import annotations

from typing import Any

from server.storage.responses import Record


def item(number: str, text: str = "Hi") -> dict[str, Any]:
    """An item; storage does not look inside."""
    return {"id": number, "type": "message", "text": text}


def record(
    number: str,
    *,
    owner: str = "",
    status: str = "completed",
    previous: str | None = None,
    inputs: tuple[str, ...] = (),
    output: tuple[str, ...] = (),
    conversation: str | None = None,
) -> Record:
    """A response whose items have these ids."""
    body = {
        "id": number,
        "created_at": 7,
        "status": status,
        "previous_response_id": previous,
        "output": [item(one) for one in output],
    }
    return Record(
        owner=owner,
        body=body,
        inputs=[item(one) for one in inputs],
        conversation_id=conversation,
    )
