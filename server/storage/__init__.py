"""What outlives a request: responses, conversations, added models; in SQLite or PostgreSQL.

Knows nothing of HTTP, of engines and of what is inside the objects it keeps: they are JSON.
Responses and conversations belong to an owner, a text that stands for an API key, and are found by
that owner alone.
"""

from __future__ import annotations

from server.storage.added_entries import AddedEntries, AddedEntry
from server.storage.conversations import Conversations
from server.storage.database import Database
from server.storage.responses import Responses

__all__ = [
    "AddedEntries",
    "AddedEntry",
    "Conversations",
    "Database",
    "Responses",
    "Storage",
]


class Storage:
    """The database and the stores in it.

    Args:
        url: See `Database`; None keeps nothing, and every call says so.
    """

    def __init__(self, url: str | None) -> None:
        self.database = Database(url)
        self.responses = Responses(self.database)
        self.conversations = Conversations(self.database)
        self.added_entries = AddedEntries(self.database)
