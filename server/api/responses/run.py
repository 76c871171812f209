"""A response while it is made: the object, its events as bytes, and its end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final

import orjson
import structlog

from server import errors
from server.api.envelope import encode_error
from server.api.error_handlers import describe
from server.api.event_stream import Begun
from server.api.responses.items import Item
from server.api.responses.output import Event, Output, Status
from server.engines.base import Delta, FinishReason, ToolCallDelta

log = structlog.get_logger(__name__)

Keep = Callable[[], Awaitable[object]]
# Codes of a failed response that OpenAI's types know.
_CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.InvalidRequest, "invalid_prompt"),
    (errors.Overloaded, "rate_limit_exceeded"),
)


class Run:
    """One response from its first event to its last.

    Args:
        response: The object; it changes as the response is made.
        output: Turns deltas into items.
        prompt_tokens: For usage.

    Attributes:
        response: The object.
    """

    def __init__(self, response: dict[str, Any], output: Output, prompt_tokens: int) -> None:
        self.response = response
        self._output = output
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = self._cached_tokens = self._reasoning_tokens = 0
        self._finish_reason: FinishReason | None = None
        self._sent = 0
        response["output"] = output.items

    def opening(self, *kinds: str) -> list[bytes]:
        """Events that hold the whole object as it is now."""
        return self._encode({"type": kind, "response": self.response} for kind in kinds)

    def begin(self) -> list[bytes]:
        """The event that tells of the first delta."""
        self.response["status"] = "in_progress"
        return self.opening("response.in_progress")

    def add(self, delta: Delta) -> list[bytes]:
        """The events of one delta."""
        self._completion_tokens += len(delta.token_ids)
        self._reasoning_tokens += delta.reasoning_tokens
        self._cached_tokens = max(self._cached_tokens, delta.cached_tokens)
        self._finish_reason = delta.finish_reason or self._finish_reason
        return self._encode(self._output.add(delta))

    def finish(self) -> list[bytes]:
        """Close the last item and settle the object; the event of the end is `ending`'s."""
        cut = self._finish_reason == "length"
        frames = self.close("incomplete" if cut else "completed")
        if cut:
            reason = {"reason": "max_output_tokens"}
            self.response |= {"status": "incomplete", "incomplete_details": reason}
        else:
            self.response |= {"status": "completed", "completed_at": int(time.time())}
        self.response["usage"] = {
            "input_tokens": self._prompt_tokens,
            "input_tokens_details": {"cached_tokens": self._cached_tokens, "cache_write_tokens": 0},
            "output_tokens": self._completion_tokens,
            "output_tokens_details": {"reasoning_tokens": self._reasoning_tokens},
            "total_tokens": self._prompt_tokens + self._completion_tokens,
        }
        return frames

    def close(self, status: Status) -> list[bytes]:
        """The events of the last item's end."""
        return self._encode(self._output.close(status))

    def fail(self, error: Exception) -> None:
        """Settle the object after a failure."""
        self._output.cut()
        self.response |= failure(error) | {"completed_at": None, "incomplete_details": None}

    def cancel(self) -> None:
        """Settle the object because nobody wants it any more."""
        self._output.cut()
        self.response["status"] = "cancelled"

    def ending(self) -> list[bytes]:
        """The last event. There is none for a cancelled response, so it is an incomplete one."""
        status = self.response["status"]
        kind = status if status in ("completed", "failed") else "incomplete"
        return self.opening(f"response.{kind}")

    def _encode(self, events: Iterable[Event]) -> list[bytes]:
        frames = []
        for event in events:
            kind = event["type"]
            numbered = {"type": kind, "sequence_number": self._sent, **event}
            frames.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), _json(numbered)))
            self._sent += 1
        return frames


def failure(error: Exception) -> dict[str, Any]:
    """The fields of a failed response."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "server_error")
    _, body, _ = describe(error)
    return {"status": "failed", "error": {"code": code, "message": body["error"]["message"]}}


async def make(run: Run, deltas: AsyncGenerator[Delta, None], keep: Keep) -> None:
    """Make a response whole, and keep it.

    Raises:
        CorralError: It failed, or could not be kept.
    """
    async with aclosing(deltas):
        async for delta in deltas:
            run.add(delta)
    run.finish()
    await keep()


async def stream(run: Run, deltas: Begun[Delta], keep: Keep) -> AsyncGenerator[list[bytes], None]:
    """Yield the events of a response after those that open it; its end is kept before it is told.

    Args:
        keep: Keeps ``run.response`` as it is then; called once at the end, if it comes to one.
    """
    last: list[bytes] = []
    async with aclosing(deltas):
        try:
            async for delta in deltas:
                if frames := run.add(delta):
                    yield frames
            last = run.finish()
            await keep()
        except Exception as error:
            log.warning("response failed", error=str(error), exc_info=_unknown(error))
            run.fail(error)
            if not isinstance(error, errors.StorageFailed):
                await keep_failure(keep)
    yield last + run.ending()


def replay(response: Mapping[str, Any]) -> list[bytes]:
    """The events of a response that has ended, each text in one piece."""
    items: list[Item] = response["output"]
    ids = iter([item["id"] for item in items])
    run = Run(
        dict(response) | {"status": "in_progress", "usage": None, "completed_at": None},
        Output(lambda _: b"", make_id=lambda _: next(ids)),
        0,
    )
    frames = run.opening("response.created", "response.in_progress")
    for index, item in enumerate(items):
        frames += run.add(_whole(item, index))
    if items:
        cut = items[-1]["status"] == "incomplete"
        frames += run.close("incomplete" if cut else "completed")
    run.response = dict(response)
    return frames + run.ending()


def _whole(item: Item, index: int) -> Delta:
    """An item as one delta."""
    if item["type"] == "function_call":
        piece = ToolCallDelta(index, item["call_id"], item["name"], item["arguments"])
        return Delta(0, "", (), tool_calls=(piece,))
    text = "".join(part["text"] for part in item["content"])
    if item["type"] == "reasoning":
        return Delta(0, "", (), reasoning=text)
    return Delta(0, text, ())


async def keep_failure(keep: Keep) -> None:
    """Keep a response that failed; that this fails too is only logged."""
    try:
        await keep()
    except errors.CorralError as another:
        log.warning("a failed response was not kept", error=str(another))


def _unknown(error: Exception) -> bool:
    return not isinstance(error, errors.CorralError)


def _json(event: Event) -> bytes:
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError:  # an error's message may quote what is no valid Unicode
        return encode_error(event)
