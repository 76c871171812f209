"""``/v1/responses``: answers as items, kept by the server if the caller likes.

An answer is made as a chat completion is: items become messages, the service's deltas become items
and events. Must not know how anything is stored.
"""
