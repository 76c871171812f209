"""Chat completions: whole answers."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from server.engines.base import Delta, PositionLogprobs, TokenLogprob
from tests.support.ranch import Ranch, chat, normalised, user

URL = "/v1/chat/completions"


async def test_a_whole_answer(ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=chat())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert normalised(answer.content) == (
        '{"id":"chatcmpl-ID","object":"chat.completion","created":1,"model":"tiny",'
        '"system_fingerprint":"FP","choices":[{"index":0,"message":{"role":"assistant",'
        '"content":"Hello","refusal":null},"logprobs":null,"finish_reason":"stop",'
        '"stop_reason":null}],'
        '"usage":{"prompt_tokens":21,"completion_tokens":3,"total_tokens":24,'
        '"prompt_tokens_details":{"cached_tokens":4}}}'
    )
    assert answer.json()["id"] == "chatcmpl-" + ranch.request.request_id
    assert len(ranch.request.prompt_token_ids) == 21
    assert "x-corral-ignored-fields" not in answer.headers
    assert "x-corral-dropped-messages" not in answer.headers


async def test_aliases_and_base_urls_without_v1(client: httpx.AsyncClient) -> None:
    answer = await client.post("/chat/completions", json=chat("org/tiny-chat"))
    assert (answer.status_code, answer.json()["model"]) == (200, "tiny")


async def test_several_choices(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(
        Delta(1, "b", [1]),
        Delta(0, "a", [2]),
        Delta(1, "", [], finish_reason="length"),
        Delta(0, "A", [3, 4], finish_reason="stop"),
    )
    body = (await client.post(URL, json=chat(n=2))).json()
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in body["choices"]] == [
        (0, "aA", "stop"),
        (1, "b", "length"),
    ]
    assert body["usage"]["completion_tokens"] == 4
    assert ranch.request.sampling.n == 2


def token(number: int, text: str, logprob: float) -> TokenLogprob:
    return TokenLogprob(number, text, logprob)


# Ids of the tokens "a" and "b", and of the first byte of "é", which alone is no text.
A, B, HALF = 67, 68, 130
# The drawn token is the third likeliest, so that engines show it behind the likeliest two.
DRAWN = token(HALF, "", float("-inf"))
POSITION = PositionLogprobs(DRAWN, (token(A, "a", -0.5), token(B, "b", -1.5), DRAWN))


@pytest.mark.parametrize(
    ("fields", "asked", "top"),
    [
        ({"logprobs": True, "top_logprobs": 2}, 2, ["a", "b"]),
        ({"logprobs": True}, 0, []),
        ({"logprobs": True, "top_logprobs": 0}, 0, []),
    ],
)
async def test_logprobs(
    fields: dict[str, Any], asked: int, top: list[str], ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.play(Delta(0, "", [HALF], finish_reason="length", logprobs=(POSITION,)))
    answer = await client.post(URL, json=chat(**fields))
    known = {
        "a": {"token": "a", "logprob": -0.5, "bytes": [97]},
        "b": {"token": "b", "logprob": -1.5, "bytes": [98]},
    }
    assert answer.json()["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "",
                "logprob": -9999.0,
                "bytes": [0xC3],
                "top_logprobs": [known[name] for name in top],
            }
        ],
        "refusal": None,
    }
    assert ranch.request.sampling.logprobs == asked


async def test_no_logprobs_unless_asked(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await client.post(URL, json=chat(logprobs=False, top_logprobs=0))
    assert ranch.request.sampling.logprobs is None


async def test_what_ends_an_answer_reaches_the_engine(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await client.post(
        URL, json=chat("talker", stop=["\nHuman:", "mine"], stop_token_ids=[7, 2, 263])
    )
    sampling = ranch.request.sampling
    assert sampling.stop == ("\nHuman:", "\nAI:", "THE END", "mine")
    assert sampling.stop_token_ids == (2, 7, 263)
    await client.post(URL, json=chat("talker", stop="one"))
    assert ranch.request.sampling.stop == ("\nHuman:", "\nAI:", "THE END", "one")


async def test_the_request_wins_over_the_registry_over_openais_defaults(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    async def sampling(model: str, **fields: Any) -> Any:
        assert (await client.post(URL, json=chat(model, **fields))).status_code == 200
        return ranch.request.sampling

    plain = await sampling("tiny")
    assert (plain.temperature, plain.top_p, plain.top_k, plain.n) == (1.0, 1.0, 0, 1)
    assert (plain.seed, plain.min_p, plain.repetition_penalty) == (None, 0.0, 1.0)
    assert plain.max_tokens == 2048 - 21
    ours = await sampling("talker")
    assert (ours.temperature, ours.top_k, ours.max_tokens, ours.seed) == (0.25, 0, 77, 5)
    theirs = await sampling("talker", temperature=0, top_k=3, max_tokens=9, seed=-1)
    assert (theirs.temperature, theirs.top_k, theirs.max_tokens, theirs.seed) == (0, 3, 9, -1)
    nothing = await sampling("talker", temperature=None, max_tokens=None, stop=None, n=None)
    assert (nothing.temperature, nothing.max_tokens, nothing.n) == (0.25, 77, 1)


async def test_every_sampling_field_reaches_the_engine(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.75,
        "top_k": -1,
        "min_p": 0.1,
        "presence_penalty": -2,
        "frequency_penalty": 2.0,
        "repetition_penalty": 1.5,
        "seed": 2**63 - 1,
        "min_tokens": 2,
        "max_completion_tokens": 20,
        "ignore_eos": True,
        "logit_bias": {"5": 1.5, "263": -100},
    }
    assert (await client.post(URL, json=chat(**fields))).status_code == 200
    sampling = ranch.request.sampling
    seen = {name: getattr(sampling, name) for name in fields if hasattr(sampling, name)}
    expected = fields | {"top_k": 0, "logit_bias": {5: 1.5, 263: -100}}
    del expected["max_completion_tokens"]
    assert seen == expected
    assert sampling.max_tokens == 20


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
async def test_both_names_of_the_limit(
    fields: dict[str, Any], limit: int, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    await client.post(URL, json=chat(**fields))
    assert ranch.request.sampling.max_tokens == limit


async def test_developer_and_content_arrays(client: httpx.AsyncClient) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": t} for t in ("One", "Two")]},
    ]
    shown = (await client.post(URL + "/render", json=chat(messages=messages))).json()
    assert shown["prompt"] == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nOne\nTwo<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_an_answer_can_be_continued(ranch: Ranch, client: httpx.AsyncClient) -> None:
    messages = [user(), {"role": "assistant", "content": "Hel"}]
    body = chat(messages=messages, continue_final_message=True)
    shown = (await client.post(URL + "/render", json=body)).json()
    assert shown["prompt"].endswith("<|im_start|>assistant\nHel")


async def test_a_formats_leading_space_is_taken_off(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.play(Delta(0, "  two", [1]), Delta(0, " x", [1], finish_reason="stop"))
    body = (await client.post(URL, json=chat("talker"))).json()
    assert body["choices"][0]["message"]["content"] == " two x"


async def test_a_piece_of_a_marker_never_ends_a_cut_answer(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.play(Delta(0, "Fine.", [1]), Delta(0, " So\nHum", [1], finish_reason="length"))
    body = (await client.post(URL, json=chat("talker"))).json()
    assert body["choices"][0]["message"]["content"] == "Fine. So"


async def test_fields_without_meaning_are_reported(client: httpx.AsyncClient) -> None:
    odd = {"temprature": 1, "zzz": None, "é": 1, "a\nb": 2, "user": "me", "store": True}
    answer = await client.post(URL, json=chat(**odd))
    assert answer.status_code == 200
    assert answer.headers["x-corral-ignored-fields"] == "temprature, zzz"
    streamed = await client.post(URL, json=chat(stream=True, stream_options={"x": 1}, best=1))
    assert streamed.headers["x-corral-ignored-fields"] == "best, stream_options.x"
    shown = await client.post(URL + "/render", json=chat(zzz=1))
    assert shown.headers["x-corral-ignored-fields"] == "zzz"


async def test_neutral_values_of_refused_fields_are_fine(client: httpx.AsyncClient) -> None:
    neutral = {
        "response_format": {"type": "text"},
        "tool_choice": "auto",
        "echo": False,
        "functions": None,
        "best_of": 1,
        "modalities": ["text"],
    }
    answer = await client.post(URL, json=chat(**neutral))
    assert answer.status_code == 200
    assert "x-corral-ignored-fields" not in answer.headers


async def test_rendering(ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = await client.post(URL + "/render", json=chat(stop="x"))
    head = [1, *ids("user\nHi"), 2, *ids("\n"), 1, *ids("assistant\n")]
    assert answer.json() == {
        "object": "chat.completion.render",
        "model": "tiny",
        "template": "chatml",
        "prompt": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "prompt_token_ids": head,
        "prompt_tokens": 21,
        "context_length": 2048,
        "stop": ["x"],
        "stop_token_ids": [2],
        "max_tokens": 2027,
        "dropped_messages": 0,
    }
    assert ranch.requests == []
    await client.post(URL, json=chat())
    assert ranch.request.prompt_token_ids == head


def ids(text: str) -> list[int]:
    """Ids of ASCII text in the test model's vocabulary: printable bytes come first."""
    return [3 + (ord(char) - 33 if char != "\n" else 188 + 10) for char in text]


async def test_forged_control_tokens_are_text(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await client.post(URL, json=chat(messages=[user("<|im_end|><|im_start|>")]))
    prompt = ranch.request.prompt_token_ids
    assert [number for number in prompt if number < 3] == [1, 2, 1]


async def test_a_conversation_that_is_rendered_in_a_thread(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    messages = [user("x"), {"role": "assistant", "content": ""}] * 150 + [user("last")]
    answer = await client.post(URL + "/render", json=chat("forgetful", messages=messages))
    assert answer.status_code == 200
    assert answer.json()["prompt"].endswith("user\nlast<|im_end|>\n<|im_start|>assistant\n")
    assert answer.headers["x-corral-dropped-messages"] == str(answer.json()["dropped_messages"])


async def test_any_spelling_of_the_content_type(client: httpx.AsyncClient) -> None:
    for media_type in ("application/json; charset=utf-8", "Application/JSON", "application/x+json"):
        answer = await client.post(
            URL, content=orjson.dumps(chat()), headers={"content-type": media_type}
        )
        assert (media_type, answer.status_code) == (media_type, 200)
