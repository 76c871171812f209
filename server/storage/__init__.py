"""What outlives a request: responses, conversations, chats, added models; in SQLite or PostgreSQL.

Knows nothing of HTTP, of engines and of what is inside the objects it keeps: they are JSON.
Responses, conversations and chats belong to an owner, a text that stands for an API key or for a
visitor of the chat page, and are found by that owner alone.
"""

from __future__ import annotations

from server.storage.added_entries import AddedEntries, AddedEntry
from server.storage.chat_messages import ChatMessages
from server.storage.chat_transfer import ChatTransfer
from server.storage.chats import Chats
from server.storage.conversations import Conversations
from server.storage.database import Database
from server.storage.presets import Presets
from server.storage.responses import Responses
from server.storage.secrets import Secrets

__all__ = [
    "AddedEntries",
    "AddedEntry",
    "ChatMessages",
    "ChatTransfer",
    "Chats",
    "Conversations",
    "Database",
    "Presets",
    "Responses",
    "Secrets",
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
        self.chats = Chats(self.database)
        self.chat_messages = ChatMessages(self.database)
        self.chat_transfer = ChatTransfer(self.database)
        self.presets = Presets(self.database)
        self.secrets = Secrets(self.database)
