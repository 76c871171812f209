"""Conversations that do not fit: refused as OpenAI does, or shortened with a receipt."""

from __future__ import annotations

from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from tests.e2e.harness import DIALOGUE, INSTRUCT, RAW

pytestmark = pytest.mark.timeout(120)


def test_a_completion_that_cannot_fit_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(
            model=INSTRUCT, messages=[{"role": "user", "content": "Hi"}], max_tokens=8192
        )
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    assert "maximum context length is 8192 tokens" in str(caught.value)


def test_a_prompt_that_cannot_fit_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(model=RAW, prompt="word " * 9000)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "prompt"


def test_a_refused_prompt_is_refused_when_streamed_too(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(model=RAW, prompt="word " * 9000, stream=True)
    assert caught.value.code == "context_length_exceeded"


# A long answer is asked for, so that 1,192 tokens are left for the conversation, and ended early.
ANSWER: dict[str, Any] = {"max_tokens": 7000, "stop": [".", "\n"], "temperature": 0}
TURN = "Tell me about number {}. " + "It is a number that I like very much. " * 12


def test_oldest_turns_go_and_the_next_turn_hits_the_prefix_cache(client: OpenAI) -> None:
    messages: list[Any] = []
    for number in range(12):
        messages += [
            {"role": "user", "content": TURN.format(number)},
            {"role": "assistant", "content": f"The number {number} is a good number."},
        ]
    question: Any = {"role": "user", "content": "Which number do you like?"}

    def ask() -> tuple[int, Any, str]:
        response = client.chat.completions.with_raw_response.create(
            model=DIALOGUE, messages=[*messages, question], **ANSWER
        )
        completion = response.parse()
        assert completion.usage is not None
        dropped = int(response.headers["x-corral-dropped-messages"])
        details: Any = completion.usage.prompt_tokens_details
        assert details.dropped_messages == dropped
        assert completion.usage.prompt_tokens + 7000 <= 8192
        return dropped, completion.usage, completion.choices[0].message.content or ""

    dropped, first, answer = ask()
    assert dropped % 2 == 0
    assert 0 < dropped < len(messages)
    messages += [question, {"role": "assistant", "content": answer or "I like seven."}]
    question = {"role": "user", "content": "Why?"}
    dropped_then, second, _ = ask()
    # The same messages are gone, so the prompt begins as before and is not computed again.
    assert dropped_then == dropped
    assert second.prompt_tokens > first.prompt_tokens
    cached = second.prompt_tokens_details.cached_tokens
    assert cached > first.prompt_tokens // 2
