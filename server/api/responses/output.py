"""Deltas as the items of a response, and as the events that tell how these grow.

An item is opened by the first delta that belongs to it and closed by the first that does not; an
answer's reasoning, text and calls come one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from server.api.logprobs import TokenBytes, chat_logprobs
from server.api.responses.items import Item, new_id
from server.engines.base import Delta, PositionLogprobs, ToolCallDelta

Event = dict[str, Any]
Status = Literal["completed", "incomplete"]
# The content part of a kind of item, and what its events are called.
_PARTS: Final = {"message": "output_text", "reasoning": "reasoning_text"}


class Output:
    """The output of one response, as it grows.

    Args:
        token_bytes: Maps the model's token ids to bytes.
        top_logprobs: Likeliest tokens to show at each position; None: no log-probabilities.
        make_id: Makes the id of an item from its prefix.

    Attributes:
        items: So far.
    """

    def __init__(
        self,
        token_bytes: TokenBytes,
        top_logprobs: int | None = None,
        make_id: Callable[[str], str] = new_id,
    ) -> None:
        self.items: list[Item] = []
        self._token_bytes = token_bytes
        self._top_logprobs = top_logprobs
        self._make_id = make_id
        self._open: str | None = None
        self._call = -1
        self._texts: list[str] = []
        self._logprobs: list[Any] = []
        self._unsent: list[PositionLogprobs] = []

    def add(self, delta: Delta) -> list[Event]:
        """The events of one delta."""
        events: list[Event] = []
        if delta.logprobs and (delta.text or not (delta.reasoning or delta.tool_calls)):
            self._unsent.extend(delta.logprobs)
        if delta.reasoning:
            events += self._grow("reasoning", delta.reasoning)
        if delta.text:
            events += self._grow("message", delta.text)
        for piece in delta.tool_calls:
            events += self._grow_call(piece)
        return events

    def close(self, status: Status) -> list[Event]:
        """The last events. An answer that says nothing is a message without text.

        Args:
            status: Of the last item.
        """
        thought_only = self._open == "reasoning" and status == "completed"
        events = self._to("message") if not self.items or thought_only else []
        return events + self.cut(status)

    def cut(self, status: Status = "incomplete") -> list[Event]:
        """Close what is open, and nothing more."""
        return self._close(status)

    def _grow(self, kind: str, text: str) -> list[Event]:
        events = self._to(kind)
        self._texts.append(text)
        fields: Event = {"content_index": 0, "delta": text}
        if kind == "message":
            fields["logprobs"] = self._taken_logprobs()
        return [*events, self._event(f"response.{_PARTS[kind]}.delta", **fields)]

    def _grow_call(self, piece: ToolCallDelta) -> list[Event]:
        events: list[Event] = []
        if piece.index != self._call or self._open != "function_call":
            events += self._close("completed")
            self._call = piece.index
            events.append(self._opened("function_call", _new_call(piece)))
        if piece.arguments:
            self._texts.append(piece.arguments)
            kind = "response.function_call_arguments.delta"
            events.append(self._event(kind, delta=piece.arguments))
        return events

    def _to(self, kind: str) -> list[Event]:
        """Open an item of this kind unless it is open."""
        if self._open == kind:
            return []
        events = self._close("completed")
        more: Item = {"summary": []} if kind == "reasoning" else {"role": "assistant"}
        events.append(self._opened(kind, more | {"content": []}))
        part = self._part(kind, "")
        return [*events, self._event("response.content_part.added", content_index=0, part=part)]

    def _opened(self, kind: str, fields: Item) -> Event:
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        item = {"id": self._make_id(prefix), "type": kind, "status": "in_progress", **fields}
        self.items.append(item)
        self._open = kind
        return {
            "type": "response.output_item.added",
            "output_index": len(self.items) - 1,
            # As it is now: it goes on growing, and events are encoded later.
            "item": dict(item),
        }

    def _close(self, status: Status) -> list[Event]:
        kind, item = self._open, self.items[-1] if self.items else {}
        if kind is None:
            return []
        text = "".join(self._texts)
        if kind == "function_call":
            item["arguments"] = text
            done = "response.function_call_arguments.done"
            events = [self._event(done, name=item["name"], arguments=text)]
        else:
            events = self._close_part(kind, item, text)
        item["status"] = status
        self._open = None
        self._texts, self._logprobs = [], []
        at = len(self.items) - 1
        done_item = {"type": "response.output_item.done", "output_index": at, "item": dict(item)}
        return [*events, done_item]

    def _close_part(self, kind: str, item: Item, text: str) -> list[Event]:
        fields: Event = {"content_index": 0, "text": text}
        if kind == "message":
            self._taken_logprobs()
            fields["logprobs"] = self._logprobs
        part = self._part(kind, text)
        item["content"] = [part]
        return [
            self._event(f"response.{_PARTS[kind]}.done", **fields),
            self._event("response.content_part.done", content_index=0, part=part),
        ]

    def _part(self, kind: str, text: str) -> Item:
        part: Item = {"type": _PARTS[kind], "text": text}
        if kind == "message":
            part |= {"annotations": [], "logprobs": self._logprobs if text else []}
        return part

    def _event(self, kind: str, **fields: Any) -> Event:
        number = self.items[-1]["id"]
        return {
            "type": kind,
            "item_id": number,
            "output_index": len(self.items) - 1,
            **fields,
        }

    def _taken_logprobs(self) -> list[Any]:
        """Log-probabilities of the tokens since the last call; they are kept for the item, too."""
        shown = self._shown(self._unsent)
        self._unsent = []
        self._logprobs += shown
        return shown

    def _shown(self, positions: Sequence[PositionLogprobs]) -> list[Any]:
        if self._top_logprobs is None:
            return []
        shown = chat_logprobs(positions, self._top_logprobs, self._token_bytes)
        return shown["content"] if shown else []


def _new_call(piece: ToolCallDelta) -> Item:
    return {"call_id": piece.id or new_id("call"), "name": piece.name or "", "arguments": ""}
