"""The official SDK over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import openai
import pytest
from pydantic import BaseModel

from server.engines.base import Delta, ToolCallDelta
from tests.support.ranch import Ranch, listening
from tests.support.stored import Scribe


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    ranch = make_ranch(database_url=database_url)
    ranch.format = Scribe()
    return ranch


@pytest.fixture
async def sdk(ranch: Ranch) -> AsyncGenerator[openai.AsyncOpenAI, None]:
    async with (
        listening(ranch) as url,
        openai.AsyncOpenAI(base_url=url + "/v1", api_key="-", max_retries=0) as client,
    ):
        yield client


async def test_responses(sdk: openai.AsyncOpenAI) -> None:
    first = await sdk.responses.create(model="tiny", input="Hi", metadata={"a": "b"})
    assert (first.output_text, first.status, first.metadata) == ("Hello", "completed", {"a": "b"})
    assert first.usage is not None
    assert first.usage.input_tokens_details.cached_tokens == 4
    second = await sdk.responses.create(
        model="tiny", input="And?", previous_response_id=first.id, truncation="auto"
    )
    assert (await sdk.responses.retrieve(second.id)) == second
    items = [item async for item in sdk.responses.input_items.list(second.id, limit=1)]
    assert [item.type for item in items] == ["message"]
    await sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="not found"):
        await sdk.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as error:
        await sdk.responses.create(model="tiny", input="x", previous_response_id="resp_0")
    assert error.value.code == "previous_response_not_found"


async def test_pages(sdk: openai.AsyncOpenAI) -> None:
    said = [{"role": "user", "content": text} for text in "ABCDE"]
    response = await sdk.responses.create(model="tiny", input=said)  # type: ignore[arg-type]
    pages = sdk.responses.input_items.list(response.id, limit=2, order="asc")
    texts = [item.content[0].text async for item in pages]  # type: ignore[union-attr]
    assert texts == list("ABCDE")


async def test_streams(sdk: openai.AsyncOpenAI, ranch: Ranch) -> None:
    stream = await sdk.responses.create(model="tiny", input="Hi", stream=True)
    kinds = [event.type async for event in stream]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    ranch.play(
        Delta(0, "", [1], reasoning="Hm"),
        Delta(0, "Well", [2]),
        Delta(0, "", [3], "tool_calls", tool_calls=(ToolCallDelta(0, "c", "f", "{}"),)),
    )
    async with sdk.responses.stream(
        model="tiny",
        input="Hi",
        tools=[{"type": "function", "name": "f", "parameters": {}, "strict": True}],
    ) as helper:
        async for _ in helper:
            pass
        final = await helper.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    assert final.output_text == "Well"


async def test_parsed_answers(sdk: openai.AsyncOpenAI, ranch: Ranch) -> None:
    class Answer(BaseModel):
        number: int

    ranch.play(Delta(0, '{"number": 42}', [1], "stop"))
    parsed = await sdk.responses.parse(model="tiny", input="Hi", text_format=Answer)
    assert parsed.output_parsed == Answer(number=42)


async def test_background(sdk: openai.AsyncOpenAI, ranch: Ranch) -> None:
    ranch.play(Delta(0, "Hel", [1]), 30.0)
    response = await sdk.responses.create(model="tiny", input="Hi", background=True)
    assert response.status == "queued"
    await asyncio.sleep(0.1)
    assert (await sdk.responses.cancel(response.id)).status == "cancelled"
    stream = await sdk.responses.retrieve(response.id, stream=True, starting_after=2)
    numbers = [event.sequence_number async for event in stream]
    assert numbers[0] == 3


async def test_conversations(sdk: openai.AsyncOpenAI) -> None:
    made = await sdk.conversations.create(
        items=[{"type": "message", "role": "user", "content": "A"}], metadata={"a": "b"}
    )
    response = await sdk.responses.create(model="tiny", input="B", conversation=made.id)
    assert response.conversation is not None
    items = [item async for item in sdk.conversations.items.list(made.id, order="asc")]
    assert [item.content[0].text for item in items] == ["A", "B", "Hello"]  # type: ignore[union-attr]
    added = await sdk.conversations.items.create(
        made.id, items=[{"type": "message", "role": "user", "content": "C"}]
    )
    item = await sdk.conversations.items.retrieve(added.last_id, conversation_id=made.id)
    assert item.type == "message"
    await sdk.conversations.items.delete(added.last_id, conversation_id=made.id)
    changed = await sdk.conversations.update(made.id, metadata={"c": "d"})
    assert (await sdk.conversations.retrieve(made.id)) == changed
    assert (await sdk.conversations.delete(made.id)).deleted
