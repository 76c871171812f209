"""What a stream says while its model is still being loaded.

Comments, which every client passes over, say it in words. Clients that ask for it with
``stream_options.include_progress`` get events of a type of their own besides::

    event: corral.progress
    data: {"object":"corral.progress","model":"m","status":"loading","detail":"…","waiting":2}

They are not sent unasked: OpenAI's clients would take them for chunks.
"""

from __future__ import annotations

import orjson

from server.generation.hosted import HostedModel

# How often a state is looked at, in seconds.
LOOK_EVERY_S = 0.5


class LoadProgress:
    """The state of a model's engine, as bytes for a stream.

    Args:
        model: The model.
        events: Whether the client asked for events.
    """

    def __init__(self, model: HostedModel, *, events: bool) -> None:
        self._model = model
        self._events = events
        self._told = b""

    def comment(self) -> bytes:
        """A comment that keeps the connection open, and says what is waited for."""
        state = self._model.engines.state
        if state.status == "ready":
            return b": keep-alive\n\n"
        # A detail may quote anything, and a line end would end the comment.
        detail = " ".join(state.detail.split())
        return f": {self._model.entry.id}: {state.status} ({detail})\n\n".encode()

    def event(self) -> bytes:
        """An event, where the client wants events and something has changed since the last."""
        if not self._events:
            return b""
        state = self._model.engines.state
        data = {
            "object": "corral.progress",
            "model": self._model.entry.id,
            "status": state.status,
            "detail": state.detail,
            "waiting": state.waiting,
        }
        event = b"event: corral.progress\ndata: " + orjson.dumps(data) + b"\n\n"
        if event == self._told:
            return b""
        self._told = event
        return event
