"""What a new response knows: earlier responses or a conversation, and its own input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from server.api.responses.items import REFERENCE, Item, check_ids, read_items, to_messages
from server.api.schemas.responses import ResponseBody
from server.errors import ContextLengthExceeded, InvalidRequest, ObjectNotFound
from server.storage import Storage
from server.storage.responses import OPEN

_PREVIOUS: Final = "previous_response_id"


@dataclass(frozen=True, slots=True)
class Context:
    """Items that came before, and those that came with the request."""

    history: Sequence[Item]
    inputs: Sequence[Item]

    def messages(self, instructions: str | None) -> list[dict[str, Any]]:
        """All of it as messages. Instructions are of this response alone, not of those before.

        Raises:
            InvalidRequest: The output of a call that is not there, or thoughts and nothing else.
        """
        messages = to_messages([*self.history, *self.inputs], instructions)
        if not messages:
            raise InvalidRequest(
                "'input' holds nothing that a model could answer: send a message.", param="input"
            )
        return messages


async def gather(body: ResponseBody, owner: str, storage: Storage) -> Context:
    """Read what the request refers to.

    Raises:
        InvalidRequest: The input is wrong, or the response before is not there.
        ObjectNotFound: The conversation is not there.
        StorageFailed: They cannot be read.
    """
    inputs = read_items(body.input) if body.input is not None else []
    if body.stored:  # better now than after the answer was made
        await storage.database.open()
    inputs = await _referred(inputs, owner, storage)
    history: Sequence[Item] = ()
    if body.previous_response_id:
        history = await _chain(body.previous_response_id, owner, storage)
    elif body.conversation:
        history = await storage.conversations.items(owner, body.conversation)
    if not inputs and not history:
        raise InvalidRequest(
            "Missing required parameter: 'input'.",
            param="input",
            code="missing_required_parameter",
        )
    check_ids([*history, *inputs])
    return Context(history, inputs)


@contextmanager
def told_of_input() -> Iterator[None]:
    """Errors about messages, which the caller never saw, become errors about its input."""
    try:
        yield
    except ContextLengthExceeded as error:
        raise ContextLengthExceeded(
            limit=error.limit,
            prompt_tokens=error.prompt_tokens,
            completion_tokens=error.completion_tokens,
            tool_tokens=error.tool_tokens,
            param="input",
        ) from None
    except InvalidRequest as error:
        if error.param and error.param.split(".")[0] == "messages":
            error.param = "input"
        raise


async def _chain(number: str, owner: str, storage: Storage) -> Sequence[Item]:
    try:
        history = await storage.responses.history(owner, number)
    except ObjectNotFound:
        raise _no_previous(number) from None
    if history.missing is not None:
        raise _no_previous(history.missing)
    if history.status in OPEN:
        raise InvalidRequest(
            f"The response '{number}' is still being made. Wait for its end, or cancel it.",
            param=_PREVIOUS,
        )
    return history.items


def _no_previous(number: str) -> InvalidRequest:
    return InvalidRequest(
        f"Previous response with id '{number}' not found.",
        param=_PREVIOUS,
        code="previous_response_not_found",
    )


async def _referred(items: list[Item], owner: str, storage: Storage) -> list[Item]:
    """Items with those in place that were only referred to."""
    wanted = [item["id"] for item in items if item["type"] == REFERENCE]
    if not wanted:
        return items
    found = await storage.responses.find_items(owner, wanted)
    for at, item in enumerate(items):
        if item["type"] == REFERENCE and item["id"] not in found:
            raise InvalidRequest(f"Item with id '{item['id']}' not found.", param=f"input.{at}.id")
    return [found[item["id"]] if item["type"] == REFERENCE else item for item in items]
