"""Anthropic's Messages API with the real engine and Anthropic's official SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from anthropic import Anthropic, NotFoundError
from anthropic.types import Message, TextBlock, ToolUseBlock

from tests.e2e.harness import CAPITAL, INSTRUCT, PARIS, Server

pytestmark = pytest.mark.timeout(180)

# The SDK's methods have no argument for it.
GREEDY: dict[str, Any] = {"extra_body": {"temperature": 0}}
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture(scope="module")
def sdk(server: Server) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key="none", timeout=120, max_retries=0) as client:
        yield client


def asking(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": INSTRUCT, "max_tokens": 60, "messages": messages} | GREEDY | fields


def said(message: Message) -> str:
    (block,) = message.content
    assert isinstance(block, TextBlock)
    return block.text


def test_an_answer(sdk: Anthropic) -> None:
    answer = sdk.messages.create(**asking(CAPITAL))
    assert said(answer) == PARIS
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    Message.model_validate(answer.to_dict(), strict=True)
    count = sdk.messages.count_tokens(model=INSTRUCT, messages=asking(CAPITAL)["messages"])
    usage = answer.usage
    assert usage.cache_read_input_tokens is not None
    assert usage.input_tokens + usage.cache_read_input_tokens == count.input_tokens
    assert usage.output_tokens == 8


@pytest.mark.parametrize("text", [CAPITAL, "Écris « où es-tu ? » en majuscules. 🥐", "你好"])
def test_a_stream_says_what_the_whole_answer_says(sdk: Anthropic, text: str) -> None:
    whole = sdk.messages.create(**asking(text))
    with sdk.messages.stream(**asking(text)) as stream:
        parts = list(stream.text_stream)
        streamed = stream.get_final_message()
    assert "".join(parts) == said(streamed) == said(whole)
    assert (streamed.stop_reason, streamed.usage.output_tokens) == (
        whole.stop_reason,
        whole.usage.output_tokens,
    )
    assert len(parts) > 1


def test_why_an_answer_ends(sdk: Anthropic) -> None:
    cut = sdk.messages.create(**asking(CAPITAL, max_tokens=3))
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 3)
    stopped = sdk.messages.create(**asking(CAPITAL, stop_sequences=["France", " is"]))
    assert said(stopped) == "The capital of "
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "France")


def test_an_answer_goes_on_from_what_is_there(sdk: Anthropic) -> None:
    fields = asking(CAPITAL)
    fields["messages"].append({"role": "assistant", "content": "The capital of France is"})
    assert said(sdk.messages.create(**fields)) == " Paris."


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_call_that_must_be_made(sdk: Anthropic, choice: dict[str, str]) -> None:
    fields = asking(
        "What is the weather in Paris?", max_tokens=200, tools=[WEATHER], tool_choice=choice
    )
    whole = sdk.messages.create(**fields)
    assert whole.stop_reason == "tool_use"
    calls = [block for block in whole.content if isinstance(block, ToolUseBlock)]
    assert calls
    for call in calls:
        assert call.name == "get_weather"
        assert isinstance(call.input["city"], str)
    with sdk.messages.stream(**fields) as stream:
        streamed = stream.get_final_message()
    assert [(call.name, call.input) for call in calls] == [
        (block.name, block.input) for block in streamed.content if isinstance(block, ToolUseBlock)
    ]
    assert streamed.stop_reason == "tool_use"
    results: Any = [
        {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny, 21 degrees."}
        for call in calls
    ]
    turns = [*fields["messages"], whole.to_param(), {"role": "user", "content": results}]
    answer = sdk.messages.create(**asking("", messages=turns, tools=[WEATHER]))
    assert answer.content


def test_no_such_model(sdk: Anthropic) -> None:
    with pytest.raises(NotFoundError) as missing:
        sdk.messages.create(**asking(CAPITAL, model="none"))
    assert missing.value.type == "not_found_error"


def test_tokens_and_back(http: httpx.Client) -> None:
    text = "Hello, <|im_start|> 你好 🦙"
    body = http.post("/tokenize", json={"model": INSTRUCT, "prompt": text}).json()
    assert body["count"] == len(body["tokens"]) > 5
    back = http.post("/detokenize", json={"model": INSTRUCT, "tokens": body["tokens"]}).json()
    assert back == {"prompt": text}
