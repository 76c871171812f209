"""The whole life of responses and conversations with the real engine and Python's official SDK."""

from __future__ import annotations

import time
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types import Model
from openai.types.conversations import Conversation, ConversationItem
from openai.types.responses import Response, ResponseItem
from pydantic import BaseModel, TypeAdapter

from tests.e2e.harness import CAPITAL, INSTRUCT, PARIS
from tests.support.feature import CITY, FLAT
from tests.support.summaries import of_response

pytestmark = pytest.mark.timeout(180)
LONG: dict[str, Any] = {
    "model": INSTRUCT,
    "input": "Write a very long story about a llama that walks through France.",
    "max_output_tokens": 2000,
    "temperature": 0,
}
SHORT: dict[str, Any] = {"model": INSTRUCT, "input": CAPITAL, "temperature": 0}


def valid(value: BaseModel, kind: Any) -> Any:
    """The value, once OpenAI's own type for it has taken it."""
    TypeAdapter(kind).validate_python(value.to_dict())  # type: ignore[attr-defined]
    return value


def ended(client: OpenAI, response_id: str) -> Response:
    """A response when nothing makes it any more."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        response = client.responses.retrieve(response_id)
        if response.status not in ("queued", "in_progress"):
            return response
        time.sleep(0.2)
    raise AssertionError(f"{response_id} has no end")


def test_a_response_is_kept_followed_and_forgotten(client: OpenAI) -> None:
    first = client.responses.create(**SHORT, metadata={"topic": "France"})
    assert (first.output_text, first.metadata) == (PARIS, {"topic": "France"})
    assert valid(client.responses.retrieve(first.id), Response) == first
    follow = client.responses.create(
        model=INSTRUCT,
        input="Say that again.",
        previous_response_id=first.id,
        temperature=0,
        max_output_tokens=24,
    )
    assert follow.previous_response_id == first.id
    assert follow.usage is not None
    assert first.usage is not None
    assert follow.usage.input_tokens > first.usage.total_tokens
    items = list(client.responses.input_items.list(follow.id, order="asc"))
    assert [valid(item, ResponseItem).type for item in items] == ["message"]
    client.responses.delete(first.id)
    for missing in (
        lambda: client.responses.retrieve(first.id),
        lambda: client.responses.delete(first.id),
        lambda: client.responses.input_items.list(first.id),
    ):
        with pytest.raises(NotFoundError, match="not found"):
            missing()
    with pytest.raises(BadRequestError) as caught:
        client.responses.create(**SHORT, previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


def test_a_streamed_response_is_kept_and_can_be_replayed(client: OpenAI) -> None:
    events = list(client.responses.create(**SHORT, stream=True))
    last = events[-1]
    assert last.type == "response.completed"
    assert client.responses.retrieve(last.response.id) == last.response
    replayed = client.responses.retrieve(last.response.id, stream=True, starting_after=2)
    said = [event for event in replayed if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in said) == PARIS


def test_what_is_not_stored_is_not_there(client: OpenAI) -> None:
    made = client.responses.create(**SHORT, store=False)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(made.id)


def test_a_response_in_the_background(client: OpenAI) -> None:
    queued = client.responses.create(**SHORT, background=True)
    assert (queued.status, queued.output) == ("queued", [])
    done = ended(client, queued.id)
    assert of_response(done)["texts"] == [PARIS]
    assert (done.status, done.background) == ("completed", True)
    with pytest.raises(BadRequestError, match="completed"):
        client.responses.cancel(queued.id)


def test_a_response_in_the_background_goes_on_alone_until_it_is_cancelled(client: OpenAI) -> None:
    stream = client.responses.create(**LONG, background=True, stream=True)
    created = next(stream)
    assert created.type == "response.created"
    number = created.response.id
    heard = next(event for event in stream if event.type == "response.output_text.delta")
    stream.close()  # nobody listens any more
    at = heard.sequence_number
    again = client.responses.retrieve(number, stream=True, starting_after=at)
    assert [next(again).sequence_number for _ in range(3)] == [at + 1, at + 2, at + 3]
    cancelled = client.responses.cancel(number)
    assert cancelled.status == "cancelled"
    assert valid(client.responses.retrieve(number), Response) == cancelled
    assert client.responses.cancel(number) == cancelled
    # Who listened hears of it, by the event that OpenAI's types have for an end without an answer.
    *_, last = again
    assert (last.type, last.response) == ("response.incomplete", cancelled)


def test_a_response_that_runs_elsewhere_is_not_cancelled(client: OpenAI) -> None:
    made = client.responses.create(**SHORT)
    with pytest.raises(BadRequestError, match="background"):
        client.responses.cancel(made.id)


def test_the_sdks_helpers(client: OpenAI) -> None:
    class City(BaseModel):
        name: str
        continent: str
        rivers: list[str]

    with client.responses.stream(**SHORT) as stream:
        texts = [e.delta for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(texts) == final.output_text == PARIS
    asked: Any = {"model": INSTRUCT, "temperature": 0}
    parsed = client.responses.parse(
        **asked,
        input="Describe Paris in JSON.",
        text={"format": {"type": "json_schema", "name": "city", "schema": CITY}},
        max_output_tokens=90,
    )
    assert City.model_validate_json(parsed.output_text).continent in ("Africa", "Asia", "Europe")
    with client.chat.completions.stream(
        **asked,
        messages=[{"role": "user", "content": "What time is it in Rome?"}],
        tools=[{"type": "function", "function": {k: v for k, v in FLAT[1].items() if k != "type"}}],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=60,
    ) as chat:
        kinds = {event.type for event in chat}
        (choice,) = chat.get_final_completion().choices
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    assert choice.message.tool_calls
    assert choice.message.tool_calls[0].function.name == "get_time"


def test_a_conversation(client: OpenAI) -> None:
    made = client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "My name is Anna."}],
        metadata={"topic": "names"},
    )
    assert valid(made, Conversation).metadata == {"topic": "names"}
    assert client.conversations.retrieve(made.id) == made
    asked: Any = {"model": INSTRUCT, "conversation": made.id, "temperature": 0}
    answer = client.responses.create(input="What is my name?", max_output_tokens=24, **asked)
    assert answer.conversation is not None
    assert answer.conversation.id == made.id
    *_, last = client.responses.create(input="Thanks.", max_output_tokens=8, stream=True, **asked)
    items = list(client.conversations.items.list(made.id, order="asc", limit=2))
    roles = [getattr(valid(item, ConversationItem), "role", None) for item in items]
    assert roles == ["user", "user", "assistant", "user", "assistant"]
    assert items[2].to_dict() == answer.output[0].to_dict()
    assert items[4].to_dict() == last.response.output[0].to_dict()  # type: ignore[union-attr]
    newest = next(iter(client.conversations.items.list(made.id)))
    assert newest.id == items[4].id


def test_items_of_a_conversation(client: OpenAI) -> None:
    made = client.conversations.create()
    added = client.conversations.items.create(
        made.id,
        items=[
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "A"}]},
            {"type": "message", "role": "assistant", "content": "B"},
        ],
    )
    first, second = (valid(item, ConversationItem) for item in added.data)
    assert (added.first_id, added.last_id, added.has_more) == (first.id, second.id, False)
    assert client.conversations.items.retrieve(first.id, conversation_id=made.id) == first
    client.conversations.items.delete(first.id, conversation_id=made.id)
    assert [item.id for item in client.conversations.items.list(made.id)] == [second.id]
    with pytest.raises(NotFoundError):
        client.conversations.items.retrieve(first.id, conversation_id=made.id)
    changed = client.conversations.update(made.id, metadata={"c": "d"})
    assert client.conversations.retrieve(made.id) == valid(changed, Conversation)
    assert client.conversations.delete(made.id).deleted
    with pytest.raises(NotFoundError):
        client.conversations.retrieve(made.id)


def test_models(client: OpenAI) -> None:
    listed = [valid(model, Model) for model in client.models.list()]
    for model in listed:
        assert client.models.retrieve(model.id) == model
    with pytest.raises(NotFoundError) as caught:
        client.models.retrieve("gpt-4o")
    assert caught.value.code == "model_not_found"
