"""Echo, log-probabilities of prompts, token ids: what evaluation harnesses ask for."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from server.engines.base import Delta, GenerationRequest, PositionLogprobs, TokenLogprob
from tests.support.ranch import Ranch, chat, events, user

URL = "/v1/completions"
CHAT = "/v1/chat/completions"


def position(number: int, text: str, *others: TokenLogprob) -> PositionLogprobs:
    drawn = TokenLogprob(number, text, -0.5, 1)
    return PositionLogprobs(drawn, (drawn, *others))


def scored(_: GenerationRequest) -> list[Delta]:
    """An answer "c" to the prompt "ab", with everything that can be asked for."""
    other = TokenLogprob(70, "d", float("-inf"), 2)
    return [
        Delta(
            0,
            "c",
            [69],
            "length",
            logprobs=(position(69, "c", other),),
            prompt_logprobs=(None, position(68, "b", other)),
        )
    ]


@pytest.fixture(autouse=True)
def script(ranch: Ranch) -> None:
    ranch.script = scored


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "ab", "max_tokens": 1} | fields


async def choices(client: httpx.AsyncClient, url: str, fields: dict[str, Any]) -> Any:
    """The choice of a whole answer, and those of its stream."""
    whole = await client.post(url, json=fields)
    streamed = await client.post(url, json=fields | {"stream": True})
    assert (whole.status_code, streamed.status_code) == (200, 200)
    chunks = [chunk["choices"][0] for chunk in events(streamed.content)[:-1]]
    return whole.json()["choices"][0], chunks


async def test_echo(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.script = lambda _: [Delta(0, "c", [69], "length")]
    whole, chunks = await choices(client, URL, body(echo=True))
    assert (whole["text"], whole["logprobs"]) == ("abc", None)
    assert "".join(chunk["text"] for chunk in chunks) == "abc"
    assert ranch.request.sampling.prompt_logprobs is None


@pytest.mark.parametrize("prompt", ["ab", [67, 68]])
async def test_as_lm_eval_asks(prompt: Any, ranch: Ranch, client: httpx.AsyncClient) -> None:
    whole, chunks = await choices(client, URL, body(prompt=prompt, echo=True, logprobs=1))
    assert whole["text"] == "abc"
    assert whole["logprobs"] == {
        "tokens": ["a", "b", "c"],
        "token_logprobs": [None, -0.5, -0.5],
        "top_logprobs": [None, {"b": -0.5, "d": -9999.0}, {"c": -0.5, "d": -9999.0}],
        "text_offset": [0, 1, 2],
    }
    assert chunks[0]["logprobs"] == whole["logprobs"]
    assert ranch.request.sampling.prompt_logprobs == 1
    assert list(ranch.request.prompt_token_ids) == [67, 68]


async def test_only_scores(ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = (await client.post(URL, json=body(max_tokens=0, echo=True, logprobs=1))).json()
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("ab", "length")
    assert choice["logprobs"]["tokens"] == ["a", "b"]
    assert answer["usage"]["completion_tokens"] == 0
    assert ranch.request.sampling.max_tokens == 1


async def test_prompt_logprobs(client: httpx.AsyncClient) -> None:
    expected = [
        None,
        {
            "68": {"logprob": -0.5, "rank": 1, "decoded_token": "b"},
            "70": {"logprob": -9999.0, "rank": 2, "decoded_token": "d"},
        },
    ]
    text = (await client.post(URL, json=body(prompt_logprobs=2))).json()
    assert text["choices"][0]["prompt_logprobs"] == expected
    assert text["choices"][0]["text"] == "c"
    whole = (await client.post(CHAT, json=chat(prompt_logprobs=2))).json()
    assert whole["prompt_logprobs"] == expected
    for url, asked in ((URL, body()), (CHAT, chat())):
        answer = await client.post(url, json=asked | {"prompt_logprobs": 1, "stream": True})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt_logprobs")


async def test_token_ids(client: httpx.AsyncClient) -> None:
    whole, chunks = await choices(client, URL, body(return_token_ids=True))
    assert (whole["token_ids"], whole["prompt_token_ids"]) == ([69], [67, 68])
    assert (chunks[0]["token_ids"], chunks[0]["prompt_token_ids"]) == ([69], [67, 68])
    answer = (await client.post(CHAT, json=chat(return_token_ids=True))).json()
    assert answer["choices"][0]["token_ids"] == [69]
    assert len(answer["prompt_token_ids"]) == 21


@pytest.mark.parametrize(("url", "asked"), [(URL, body()), (CHAT, chat())])
async def test_request_ids(
    url: str, asked: dict[str, Any], ranch: Ranch, client: httpx.AsyncClient
) -> None:
    for _ in range(2):
        answer = await client.post(url, json=asked | {"request_id": "mine-1"})
        assert answer.json()["id"].endswith("cmpl-mine-1")
    # Engines end a request by its id, so two callers must not share one.
    assert len({request.request_id for request in ranch.requests}) == 2
    for wrong in ("", "a b", "x" * 129, "é", "a\n", 5):
        answer = await client.post(url, json=asked | {"request_id": wrong})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "request_id")


async def test_echo_in_a_chat(client: httpx.AsyncClient) -> None:
    begun = [user(), {"role": "assistant", "content": "Well, "}]
    fields = chat(
        messages=begun, echo=True, continue_final_message=True, add_generation_prompt=False
    )
    whole, chunks = await choices(client, CHAT, fields)
    assert whole["message"]["content"] == "Well, c"
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == "Well, c"


async def test_cut_prompts(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await client.post(URL, json=body(prompt="abcdef", truncate_prompt_tokens=2))
    assert list(ranch.request.prompt_token_ids) == [71, 72]
    answer = await client.post(URL, json=body(prompt="abcdef", truncate_prompt_tokens=2, echo=True))
    assert answer.json()["choices"][0]["text"] == "efc"
    await client.post(URL, json=body(prompt="x" * 3000, truncate_prompt_tokens=-1, max_tokens=48))
    assert len(ranch.request.prompt_token_ids) == 2000
    answer = await client.post(URL, json=body(truncate_prompt_tokens=0))
    assert answer.json()["error"]["param"] == "truncate_prompt_tokens"
