"""Legacy completions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from server.engines.base import Delta, GenerationRequest, PositionLogprobs, TokenLogprob
from server.engines.scripted import Step
from server.errors import GenerationFailed, Overloaded
from tests.support.ranch import Ranch, events, normalised, until

URL = "/v1/completions"


def body(prompt: Any = "Hi", **fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt} | fields


async def test_a_whole_answer(ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=body())
    assert normalised(answer.content) == (
        '{"id":"cmpl-ID","object":"text_completion","created":1,"model":"tiny",'
        '"system_fingerprint":"FP","choices":[{"index":0,"text":"Hello","logprobs":null,'
        '"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":2,"completion_tokens":3,'
        '"total_tokens":5,"prompt_tokens_details":{"cached_tokens":4}}}'
    )
    sampling = ranch.request.sampling
    assert (sampling.max_tokens, sampling.stop, sampling.stop_token_ids) == (16, (), (2,))
    await client.post(URL, json=body(max_tokens=3, stop="x"))
    assert (ranch.request.sampling.max_tokens, ranch.request.sampling.stop) == (3, ("x",))
    await client.post(URL, json=body(model="talker"))
    assert ranch.request.sampling.max_tokens == 77
    assert ranch.request.sampling.stop == ("THE END",)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("ab", [[67, 68]]),
        (["ab"], [[67, 68]]),
        (["a", "b", "c"], [[67], [68], [69]]),
        ([68, 0, 263], [[68, 0, 263]]),
        ([[68], [69, 70]], [[68], [69, 70]]),
        ("<|im_end|>", None),
    ],
)
async def test_prompts(prompt: Any, expected: Any, ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=body(prompt))
    assert answer.status_code == 200
    seen = [list(request.prompt_token_ids) for request in ranch.requests]
    if expected is None:  # a typed control token is text
        assert len(seen[0]) == 10
    else:
        assert seen == expected
        assert answer.json()["usage"]["prompt_tokens"] == sum(map(len, expected))


def by_prompt(**scripts: list[Step]) -> Any:
    """Scripts by the prompt's one letter."""

    def script(request: GenerationRequest) -> Iterable[Step]:
        return scripts[chr(request.prompt_token_ids[0] - 3 + 33)]

    return script


async def test_choices_of_several_prompts(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.script = by_prompt(
        a=[Delta(1, "a1", [1], "stop"), 0.02, Delta(0, "a0", [1], "stop", cached_tokens=1)],
        b=[Delta(0, "b0", [1, 2], "length"), Delta(1, "b1", [1], "stop", cached_tokens=2)],
    )
    answer = (await client.post(URL, json=body(["a", "b"], n=2))).json()
    assert [(c["index"], c["text"], c["finish_reason"]) for c in answer["choices"]] == [
        (0, "a0", "stop"),
        (1, "a1", "stop"),
        (2, "b0", "length"),
        (3, "b1", "stop"),
    ]
    usage = {
        "prompt_tokens": 2,
        "completion_tokens": 5,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    assert answer["usage"] == usage
    options = {"stream": True, "stream_options": {"include_usage": True}}
    streamed = await client.post(URL, json=body(["a", "b"], n=2, **options))
    assert events(streamed.content)[-2]["usage"] == usage


async def test_a_stream(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=body(stream=True, stream_options={"include_usage": True}))
    head = (
        'data: {"id":"cmpl-ID","object":"text_completion","created":1,"model":"tiny",'
        '"system_fingerprint":"FP","choices":['
    )
    assert normalised(answer.content) == (
        f'{head}{{"index":0,"text":"Hel","logprobs":null,"finish_reason":null}}],"usage":null}}\n\n'
        f'{head}{{"index":0,"text":"lo","logprobs":null,"finish_reason":"stop",'
        f'"stop_reason":null}}],"usage":null}}\n\n{head}],"usage":{{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5,'
        '"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
        "data: [DONE]\n\n"
    )


async def test_a_stream_of_several_prompts(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.script = by_prompt(
        a=[Delta(0, "a", [1]), 0.05, Delta(0, "A", [1], "stop")],
        b=[0.02, Delta(0, "b", [1]), Delta(1, "c", [1], "stop"), Delta(0, "", [], "stop")],
        c=[0.08, Delta(0, "z", [1], "stop")],
    )
    answer = await client.post(URL, json=body(["a", "b", "c"], stream=True, n=2))
    *chunks, done = events(answer.content)
    found = [(c["index"], c["text"], c["finish_reason"]) for e in chunks for c in e["choices"]]
    assert found == [
        (0, "a", None),
        (2, "b", None),
        (3, "c", "stop"),
        (2, "", "stop"),
        (0, "A", "stop"),
        (4, "z", "stop"),
    ]
    assert done == "[DONE]"
    assert ranch.aborted == []


def position(text: str, *others: tuple[str, float]) -> PositionLogprobs:
    drawn = TokenLogprob(1, text, -0.5)
    top = tuple(TokenLogprob(2, other, logprob) for other, logprob in others)
    return PositionLogprobs(drawn, (*top, drawn))


LOGPROBS: list[Step] = [
    # The engine holds text back where a stop string may begin; its tokens come at once.
    Delta(0, "", [1], logprobs=(position("Hé", ("x", -0.25)),)),
    Delta(0, "Hé llo", [1, 1], "stop", logprobs=(position(" l"), position("lo"))),
]


async def test_logprobs(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(*LOGPROBS)
    whole = (await client.post(URL, json=body(logprobs=1))).json()["choices"][0]["logprobs"]
    assert whole == {
        "tokens": ["Hé", " l", "lo"],
        "token_logprobs": [-0.5, -0.5, -0.5],
        "top_logprobs": [{"x": -0.25, "Hé": -0.5}, {" l": -0.5}, {"lo": -0.5}],
        "text_offset": [0, 2, 4],
    }
    assert ranch.request.sampling.logprobs == 1
    streamed = events((await client.post(URL, json=body(logprobs=1, stream=True))).content)
    parts = [chunk["choices"][0]["logprobs"] for chunk in streamed[:-1]]
    assert {name: [item for part in parts for item in part[name]] for name in whole} == whole


async def test_one_prompt_that_fails_ends_the_whole_answer(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.script = by_prompt(a=[30.0], b=[0.01, GenerationFailed("bad luck")])
    answer = await client.post(URL, json=body(["a", "b"]))
    assert answer.status_code == 500
    assert answer.json() == {
        "error": {
            "message": "bad luck",
            "type": "server_error",
            "param": None,
            "code": "generation_failed",
        }
    }
    assert len(ranch.aborted) == 1


async def test_the_first_failure_gives_the_status(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.script = by_prompt(
        a=[Overloaded("full", retry_after=2.5)], b=[Overloaded("full", retry_after=2.5)]
    )
    for stream in (False, True):
        answer = await client.post(URL, json=body(["a", "b"], stream=stream))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")


async def test_a_prompt_that_fails_after_another_has_ended(
    ranch: Ranch, client: httpx.AsyncClient
) -> None:
    ranch.script = by_prompt(
        a=[Delta(0, "a", [1], "stop")], b=[0.05, GenerationFailed("gone")], c=[30.0]
    )
    answer = await client.post(URL, json=body(["a", "b", "c"], stream=True))
    text, error = events(answer.content)
    assert text["choices"][0]["text"] == "a"
    assert error == {
        "error": {
            "message": "gone",
            "type": "server_error",
            "param": None,
            "code": "generation_failed",
        }
    }
    await until(lambda: len(ranch.aborted) == 1)


async def test_many_prompts_wait_for_each_other(ranch: Ranch, client: httpx.AsyncClient) -> None:
    running, most = 0, 0

    def script(_: GenerationRequest) -> Iterable[Step]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        while most < 64:
            yield 0.005
        yield 0.01
        running -= 1
        yield Delta(0, "x", [1], "stop")

    ranch.script = script
    for stream in (False, True):
        answer = await client.post(URL, json=body(["a"] * 150, stream=stream))
        assert answer.status_code == 200
    assert len(ranch.requests) == 300
    assert most == 64


@pytest.mark.parametrize(
    ("fields", "param", "text"),
    [
        ({"prompt": ""}, "prompt", "The prompt is empty"),
        ({"prompt": []}, "prompt", "must hold from 1 to 2048 prompts."),
        ({"prompt": ["a"] * 2049}, "prompt", "must hold from 1 to 2048 prompts."),
        ({"prompt": [[]]}, "prompt", "must be a string"),
        ({"prompt": ["a", ""]}, "prompt", "The prompt is empty"),
        ({"prompt": 5}, "prompt", "must be a string"),
        ({"prompt": None}, "prompt", "must be a string"),
        ({"prompt": [1, "a"]}, "prompt", "must be a string"),
        ({"prompt": [True]}, "prompt", "must be a string"),
        ({"prompt": [1.0]}, "prompt", "must be a string"),
        ({"prompt": {"a": 1}}, "prompt", "must be a string"),
        ({"prompt": [264]}, "prompt", "Token id 264 is outside the model's vocabulary of 264"),
        ({"prompt": [[5], [-1]]}, "prompt", "Token id -1 is outside"),
        ({"prompt": [2**70]}, "prompt", "must be a string"),
        ({"logprobs": True}, "logprobs", "valid integer"),
        ({"logprobs": 21}, "logprobs", "less than or equal to 20"),
        ({"max_tokens": 0}, "max_tokens", "or 0 together with 'echo': true."),
        ({"suffix": "x"}, "suffix", "'suffix' is not supported"),
        ({"best_of": 2}, "best_of", "'best_of' is not supported"),
        ({"stream_options": {}}, "stream_options", "only allowed when 'stream' is true."),
    ],
)
async def test_wrong_requests(
    fields: dict[str, Any], param: str, text: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await client.post(URL, json=body() | fields)
    found = answer.json()["error"]
    assert (answer.status_code, found["param"]) == (400, param)
    assert text in found["message"]
    assert ranch.requests == []


async def test_too_long_a_prompt(ranch: Ranch, client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=body([5] * 60, model="strict", max_tokens=5))
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "This model's maximum context length is 64 tokens. However, you requested 65 "
        "tokens (60 in the prompt, 5 in the completion). Please reduce the length of the prompt "
        "or completion.",
        "type": "invalid_request_error",
        "param": "prompt",
        "code": "context_length_exceeded",
    }
    assert (await client.post(URL, json=body([5] * 60, model="strict"))).status_code == 200
    assert ranch.request.sampling.max_tokens == 4
    assert (await client.post(URL, json=body([5] * 64, model="strict"))).status_code == 400
    # Tokenised in a thread.
    long = await client.post(URL, json=body("x" * 30_000))
    assert long.json()["error"]["message"].startswith(
        "This model's maximum context length is 2048 tokens. However, your prompt resulted in "
        "30000 tokens."
    )


async def test_unknown_fields_are_reported(client: httpx.AsyncClient) -> None:
    answer = await client.post(URL, json=body(messages=[], suffix=None))
    assert answer.headers["x-corral-ignored-fields"] == "messages"
