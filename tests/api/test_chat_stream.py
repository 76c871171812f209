"""Chat completions as streams: the exact bytes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from server.engines.base import Delta, PositionLogprobs, TokenLogprob
from tests.support.ranch import Ranch, chat, events, normalised

URL = "/v1/chat/completions"
HEAD = (
    'data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1,"model":"tiny",'
    '"system_fingerprint":"FP","choices":['
)


def choice(delta: str, index: int = 0, finish: str = "null") -> str:
    return f'{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}'


def finish(reason: str, index: int = 0, stop_reason: str = "null") -> str:
    return choice("{}", index, f'"{reason}","stop_reason":{stop_reason}')


def role(index: int = 0) -> str:
    return choice('{"role":"assistant","content":""}', index)


async def stream(client: httpx.AsyncClient, **fields: Any) -> str:
    answer = await client.post(URL, json=chat(stream=True, **fields))
    assert answer.status_code == 200
    return normalised(answer.content)


async def test_a_stream(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=chat(stream=True))
    assert normalised(answer.content) == (
        f"{HEAD}{role()}]}}\n\n"
        f'{HEAD}{choice("""{"content":"Hel"}""")}]}}\n\n'
        f'{HEAD}{choice("""{"content":"lo"}""")}]}}\n\n'
        f"{HEAD}{finish('stop')}]}}\n\n"
        "data: [DONE]\n\n"
    )
    headers = dict(answer.headers)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers


async def test_usage_when_asked(client: httpx.AsyncClient) -> None:
    got = await stream(client, stream_options={"include_usage": True})
    assert got == (
        f'{HEAD}{role()}],"usage":null}}\n\n'
        f'{HEAD}{choice("""{"content":"Hel"}""")}],"usage":null}}\n\n'
        f'{HEAD}{choice("""{"content":"lo"}""")}],"usage":null}}\n\n'
        f'{HEAD}{finish("stop")}],"usage":null}}\n\n'
        f'{HEAD}],"usage":{{"prompt_tokens":21,"completion_tokens":3,"total_tokens":24,'
        '"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
        "data: [DONE]\n\n"
    )


async def test_usage_in_every_chunk(client: httpx.AsyncClient) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = await client.post(URL, json=chat(stream=True, stream_options=options))
    *chunks, done = events(answer.content)
    assert done == "[DONE]"
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 1, 3, 3, 3]
    assert [chunk["choices"] == [] for chunk in chunks] == [False] * 4 + [True]


@pytest.mark.parametrize(
    "options", [None, {}, {"include_usage": False}, {"continuous_usage_stats": True}]
)
async def test_no_usage_unless_asked(options: Any, client: httpx.AsyncClient) -> None:
    assert "usage" not in await stream(client, stream_options=options)


async def test_choices_come_as_they_are_made(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(
        Delta(1, "b", [1]),
        Delta(0, "a", [2]),
        Delta(1, "", [], finish_reason="length"),
        Delta(0, "", [3]),
        Delta(0, "A", [4], finish_reason="stop"),
    )
    got = await stream(client, n=2)
    assert got == (
        f"{HEAD}{role(0)}]}}\n\n"
        f"{HEAD}{role(1)}]}}\n\n"
        f'{HEAD}{choice("""{"content":"b"}""", 1)}]}}\n\n'
        f'{HEAD}{choice("""{"content":"a"}""", 0)}]}}\n\n'
        f"{HEAD}{finish('length', 1)}]}}\n\n"
        f'{HEAD}{choice("""{"content":"A"}""", 0)}]}}\n\n'
        f"{HEAD}{finish('stop')}]}}\n\n"
        "data: [DONE]\n\n"
    )


async def test_logprobs_come_with_their_chunk(ranch: Ranch, client: httpx.AsyncClient) -> None:
    drawn = TokenLogprob(90, "x", -0.25)
    other = TokenLogprob(91, "y", -0.125)
    position = PositionLogprobs(drawn, (other, drawn))
    # The text is held back at first: a stop string may begin there.
    ranch.play(
        Delta(0, "", [9], logprobs=(position,)),
        Delta(0, "xx", [9], finish_reason="stop", logprobs=(position,)),
    )
    answer = await client.post(URL, json=chat(stream=True, logprobs=True, top_logprobs=1))
    opening, held, text, finish, done = events(answer.content)
    expected = {
        "content": [
            {
                "token": "x",
                "logprob": -0.25,
                "bytes": [120],
                "top_logprobs": [{"token": "y", "logprob": -0.125, "bytes": [121]}],
            }
        ],
        "refusal": None,
    }
    assert opening["choices"][0]["logprobs"] is None
    assert (held["choices"][0]["delta"], held["choices"][0]["logprobs"]) == (
        {"content": ""},
        expected,
    )
    assert (text["choices"][0]["delta"], text["choices"][0]["logprobs"]) == (
        {"content": "xx"},
        expected,
    )
    assert (finish["choices"][0]["logprobs"], done) == (None, "[DONE]")


async def test_text_of_any_language_is_sent_as_it_is(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    text = 'Grüß "dich" \u2028 \\ 你好 🦙\n\x00'
    ranch.play(Delta(0, text, [1], finish_reason="stop"))
    answer = await client.post(URL, json=chat(stream=True))
    assert events(answer.content)[1]["choices"][0]["delta"]["content"] == text
    assert "你好 🦙".encode() in answer.content


async def test_streamed_and_whole_answers_are_equal(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    steps = [(" The", None), (" answer", None), (".\nHu", "length")]

    def script(_: object) -> list[Delta]:
        return [Delta(0, text, [1], finish_reason=finish) for text, finish in steps]  # type: ignore[arg-type]

    ranch.script = script
    whole = (await client.post(URL, json=chat("talker"))).json()["choices"][0]
    streamed = events((await client.post(URL, json=chat("talker", stream=True))).content)
    text = "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in streamed if chunk != "[DONE]"
    )
    assert text == whole["message"]["content"] == "The answer."
    assert streamed[-2]["choices"][0]["finish_reason"] == whole["finish_reason"] == "length"


async def test_an_engine_that_says_nothing(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play()
    assert await stream(client) == f"{HEAD}{role()}]}}\n\ndata: [DONE]\n\n"


async def test_ignored_fields_and_dropped_messages_are_told_in_headers(
    client: httpx.AsyncClient,
) -> None:
    long = [{"role": role, "content": "x" * 20} for role in ("user", "assistant") * 3]
    answer = await client.post(
        URL,
        json=chat(
            "forgetful",
            stream=True,
            stream_options={"include_usage": True},
            odd=1,
            messages=[*long, {"role": "user", "content": "Hi"}],
        ),
    )
    assert answer.headers["x-corral-dropped-messages"] == "4"
    assert answer.headers["x-corral-ignored-fields"] == "odd"
    usage = events(answer.content)[-2]["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 4, "dropped_messages": 4}
