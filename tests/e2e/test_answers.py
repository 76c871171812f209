"""What people ask for first, through the official SDK and through curl."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI

from tests.e2e.harness import ALPACA, CAPITAL, DIALOGUE, INSTRUCT, PARIS, RAW, Server

pytestmark = pytest.mark.timeout(120)
QUESTION: list[Any] = [{"role": "user", "content": CAPITAL}]


def test_the_capital_of_france(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=INSTRUCT, messages=QUESTION, temperature=0)
    (choice,) = answer.choices
    assert choice.message.content == PARIS
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.model == INSTRUCT


def test_streamed_with_usage_in_openais_order(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=INSTRUCT,
            messages=QUESTION,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    first, *middle, finish, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert first.choices[0].delta.content == ""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in middle) == PARIS
    assert finish.choices[0].finish_reason == "stop"
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 8
    assert {chunk.id for chunk in chunks} == {first.id}


async def test_async_sdk(async_client: AsyncOpenAI) -> None:
    answer = await async_client.chat.completions.create(
        model=INSTRUCT, messages=QUESTION, temperature=0
    )
    assert answer.choices[0].message.content == PARIS


async def test_async_sdk_streaming(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(
        model=INSTRUCT, messages=QUESTION, temperature=0, stream=True
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == PARIS


def test_the_sdks_own_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model=INSTRUCT, messages=QUESTION, temperature=0) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == PARIS


def test_the_models_hub_name_is_an_alias(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="HuggingFaceTB/SmolLM2-135M-Instruct", messages=QUESTION, temperature=0
    )
    assert answer.choices[0].message.content == PARIS
    assert client.models.retrieve("HuggingFaceTB/SmolLM2-135M-Instruct").id == INSTRUCT


def test_models_are_listed_in_the_registrys_order(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [INSTRUCT, RAW, DIALOGUE, ALPACA]


def test_content_parts_and_developer_messages(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=INSTRUCT,
        messages=[
            {"role": "developer", "content": "You are a helpful assistant."},
            {"role": "user", "content": [{"type": "text", "text": CAPITAL}]},
        ],
        temperature=0,
    )
    assert "Paris" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize("stream", [False, True])
def test_curl(server: Server, stream: bool) -> None:
    body = {"model": INSTRUCT, "messages": QUESTION, "temperature": 0, "stream": stream}
    header = ("-H", "Content-Type: application/json")
    done = subprocess.run(
        ["curl", "-sSNf", f"{server.url}/v1/chat/completions", *header, "-d", json.dumps(body)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    text = done.stdout.decode()
    if not stream:
        assert json.loads(text)["choices"][0]["message"]["content"] == PARIS
        return
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == PARIS


def test_raw_babbles_on(client: OpenAI) -> None:
    answer = client.completions.create(model=RAW, prompt="Once upon a time", temperature=0)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 256  # the registry's max_tokens for this entry
    assert len(answer.choices[0].text) > 256


def test_dialogue_stops_by_itself_and_remembers(client: OpenAI) -> None:
    def ask(*turns: str) -> str:
        roles = ("user", "assistant")
        messages: Any = [
            {"role": roles[number % 2], "content": text} for number, text in enumerate(turns)
        ]
        answer = client.chat.completions.create(model=DIALOGUE, messages=messages, temperature=0)
        assert answer.choices[0].finish_reason == "stop"
        return answer.choices[0].message.content or ""

    said = "Hello, my name is Anna."
    first = ask(said)
    assert first
    assert "Human:" not in first
    second = ask(said, first, "What is my name?")
    assert "Anna" in second
    assert "Anna" not in ask("What is my name?")  # not a lucky guess


def test_a_seed_repeats_an_answer(client: OpenAI) -> None:
    def sample(seed: int) -> str:
        answer = client.completions.create(
            model=RAW, prompt="My favourite animal is", temperature=1, seed=seed, max_tokens=24
        )
        return answer.choices[0].text

    first = sample(7)
    assert sample(7) == first
    assert sample(8) != first


def test_two_choices(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=INSTRUCT, messages=QUESTION, n=2, seed=1, temperature=1, max_tokens=12
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 12


def test_two_choices_streamed(client: OpenAI) -> None:
    texts = ["", ""]
    finished = []
    for chunk in client.chat.completions.create(
        model=INSTRUCT, messages=QUESTION, n=2, temperature=0, stream=True
    ):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            finished.append(choice.index)
    assert texts == [PARIS, PARIS]
    assert sorted(finished) == [0, 1]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_length_limit_cuts_the_answer(client: OpenAI, field: str) -> None:
    limit: dict[str, Any] = {field: 3}
    answer = client.chat.completions.create(
        model=INSTRUCT, messages=QUESTION, temperature=0, **limit
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "The capital of"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("model", [INSTRUCT, DIALOGUE])
def test_usage_counts_what_render_shows(client: OpenAI, http: httpx.Client, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "Guten Tag! 你好 👋🏽"}]}
    rendered = http.post("/v1/chat/completions/render", json=body).json()
    messages: Any = body["messages"]
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=1)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == rendered["prompt_tokens"]
    assert len(rendered["prompt_token_ids"]) == rendered["prompt_tokens"]
    assert answer.usage.total_tokens == rendered["prompt_tokens"] + 1


def test_the_rendered_ids_give_the_same_answer(client: OpenAI, http: httpx.Client) -> None:
    body = {"model": INSTRUCT, "messages": QUESTION}
    ids = http.post("/v1/chat/completions/render", json=body).json()["prompt_token_ids"]
    answer = client.completions.create(model=RAW, prompt=ids, temperature=0, max_tokens=32)
    assert answer.choices[0].text == PARIS
    assert answer.choices[0].finish_reason == "stop"


def test_ignore_eos_goes_on_to_the_limit(client: OpenAI) -> None:
    # A field of vLLM's, which its benchmark relies on.
    answer = client.chat.completions.create(
        model=INSTRUCT,
        messages=QUESTION,
        temperature=0,
        max_tokens=20,
        extra_body={"ignore_eos": True},
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20


def test_several_prompts(client: OpenAI) -> None:
    prompts = ["The sky is", "One, two, three,"]
    together = client.completions.create(model=RAW, prompt=prompts, temperature=0, max_tokens=4)
    assert [choice.index for choice in together.choices] == [0, 1]
    assert all(choice.text for choice in together.choices)


def test_logprobs_of_a_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=INSTRUCT, messages=QUESTION, temperature=0, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert answer.usage is not None
    assert len(logprobs.content) == answer.usage.completion_tokens
    assert [token.token for token in logprobs.content][:3] == ["The", " capital", " of"]
    assert all(token.logprob <= 0 for token in logprobs.content)
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)


def test_logprobs_of_a_completion_leave_the_engine_alive(client: OpenAI) -> None:
    answer = client.completions.create(
        model=RAW, prompt="The sky is", temperature=0, logprobs=3, max_tokens=5
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert logprobs.text_offset == [
        sum(len(token) for token in logprobs.tokens[:position]) for position in range(5)
    ]
    test_the_capital_of_france(client)


def test_an_unknown_model_is_a_404(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_a_wrong_field_is_named(client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model=INSTRUCT, messages=QUESTION, temperature=3)
    assert caught.value.param == "temperature"
