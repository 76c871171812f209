"""Anthropic's official SDK against the Messages API, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, TextBlock, ThinkingBlock, ToolUseBlock

from server.engines.base import Delta
from server.errors import EngineDied, Overloaded
from tests.support.messages import CLOCK, WEATHER, prompt
from tests.support.ranch import Ranch, listening, user

HI: Any = [user()]


def connect(url: str, key: str = "-") -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0)


@pytest.fixture
async def sdk(thinker: Ranch) -> AsyncGenerator[anthropic.AsyncAnthropic, None]:
    async with listening(thinker) as url, connect(url) as client:
        yield client


def checked(message: Message) -> Message:
    """The SDK takes whatever comes; its types do not."""
    return Message.model_validate(message.to_dict(), strict=True)


async def test_create(sdk: anthropic.AsyncAnthropic) -> None:
    message = await sdk.messages.create(model="tiny", max_tokens=9, messages=HI, system="S")
    assert message.content == [TextBlock(type="text", text="Hello")]
    assert (message.stop_reason, message.model, message.role) == ("end_turn", "tiny", "assistant")
    assert message._request_id is not None
    assert message._request_id.startswith("req_")
    checked(message)


async def test_a_conversation_with_tools(sdk: anthropic.AsyncAnthropic, thinker: Ranch) -> None:
    thinker.play(
        Delta(0, "?Hm.", [1]),
        Delta(0, "Let me see.", [1]),
        Delta(0, '!weather {"city": "Rom"}', [1]),
        Delta(0, "!clock {}", [1], "stop"),
    )
    tools: Any = [WEATHER, CLOCK]
    first = checked(
        await sdk.messages.create(
            model="thinker",
            max_tokens=9,
            messages=HI,
            tools=tools,
            thinking={"type": "adaptive"},
        )
    )
    assert first.stop_reason == "tool_use"
    assert first.content == [
        ThinkingBlock(type="thinking", thinking="Hm.", signature=""),
        TextBlock(type="text", text="Let me see."),
        ToolUseBlock(type="tool_use", id="call_0", name="weather", input={"city": "Rom"}),
        ToolUseBlock(type="tool_use", id="call_1", name="clock", input={}),
    ]
    thinker.play(Delta(0, "It rains.", [1], "stop"))
    results: Any = [
        {"type": "tool_result", "tool_use_id": "call_0", "content": "rain"},
        {"type": "tool_result", "tool_use_id": "call_1", "content": "noon"},
    ]
    second = await sdk.messages.create(
        model="thinker",
        max_tokens=9,
        messages=[*HI, first.to_param(), {"role": "user", "content": results}],
        tools=tools,
    )
    assert second.content == [TextBlock(type="text", text="It rains.")]
    assert await prompt(thinker) == (
        "[tools: weather clock][user]Hi[assistant](Hm.)Let me see."
        '<call_0 weather {"city": "Rom"}><call_1 clock {}>'
        "[tool weather]rain[tool clock]noon[assistant]"
    )


async def test_a_stream_is_the_whole_answer(sdk: anthropic.AsyncAnthropic, thinker: Ranch) -> None:
    thinker.play(
        Delta(0, "?Hm, ", [1], cached_tokens=4),
        Delta(0, "?yes.", [1]),
        Delta(0, "Let me ", [1]),
        Delta(0, "see.", [1]),
        Delta(0, '!weather {"ci', [1]),
        Delta(0, '+ty": "Rom"}', [1]),
        Delta(0, "", [2], "stop"),
    )
    fields: Any = {"model": "thinker", "max_tokens": 9, "messages": HI, "tools": [WEATHER]}
    async with sdk.messages.stream(**fields) as stream:
        kinds = [event.type async for event in stream]
        streamed = await stream.get_final_message()
    assert kinds[:4] == [
        *("message_start", "content_block_start", "content_block_delta", "thinking")
    ]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    whole = await sdk.messages.create(**fields)
    # The SDK adds an empty one to what was streamed.
    for message in (streamed, whole):
        message.id, message.stop_details = "", None
    assert streamed.to_dict() == whole.to_dict()
    assert whole.usage.cache_read_input_tokens == 4
    assert whole.usage.output_tokens == 7


async def test_text_of_a_stream(sdk: anthropic.AsyncAnthropic) -> None:
    async with sdk.messages.stream(model="tiny", max_tokens=9, messages=HI) as stream:
        assert [text async for text in stream.text_stream] == ["Hel", "lo"]


async def test_count_tokens(sdk: anthropic.AsyncAnthropic) -> None:
    tools: Any = [WEATHER]
    count = await sdk.messages.count_tokens(model="thinker", messages=HI, tools=tools)
    # A token a character, but for the "he" in "weather".
    assert count.input_tokens == len("[tools: weather][user]Hi[assistant]") - 1


async def test_errors(make_ranch: Callable[..., Ranch]) -> None:
    ranch = make_ranch(keys=["right"], max_body_bytes=2048)
    async with listening(ranch) as url, connect(url, "right") as client:

        async def create(**fields: Any) -> Message:
            given = {"model": "tiny", "max_tokens": 9, "messages": HI} | fields
            return await client.messages.create(**given)

        with pytest.raises(anthropic.NotFoundError) as missing:
            await create(model="none")
        assert missing.value.type == "not_found_error"
        assert missing.value.request_id is not None
        with pytest.raises(anthropic.BadRequestError) as wrong:
            await create(max_tokens=0)
        assert wrong.value.type == "invalid_request_error"
        assert wrong.value.api_message is not None
        assert "'max_tokens'" in wrong.value.api_message
        with pytest.raises(anthropic.RequestTooLargeError):
            await create(messages=[user("x" * 3000)])
        ranch.play(Overloaded("full", retry_after=1))
        with pytest.raises(anthropic.RateLimitError):
            await create()
        ranch.play(EngineDied("gone"))
        with pytest.raises(anthropic.InternalServerError) as died:
            await create()
        assert (died.value.type, died.value.status_code) == ("api_error", 503)
    async with listening(ranch) as url, connect(url, "wrong") as client:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await create()
        assert refused.value.type == "authentication_error"


async def test_an_error_inside_a_stream(sdk: anthropic.AsyncAnthropic, thinker: Ranch) -> None:
    thinker.play(Delta(0, "Hel", [1]), EngineDied("gone"))
    stream = await sdk.messages.create(model="tiny", max_tokens=9, messages=HI, stream=True)
    seen = [(await anext(stream)).type for _ in range(3)]
    assert seen == ["message_start", "content_block_start", "content_block_delta"]
    with pytest.raises(anthropic.APIStatusError, match="gone") as failed:
        await anext(stream)
    assert failed.value.type == "api_error"
