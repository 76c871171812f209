"""No field is passed over in silence: obeyed, refused by name, or reported in a header."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest

from tests.support.ranch import Ranch, chat

URLS = {"chat": "/v1/chat/completions", "text": "/v1/completions"}
BODIES: dict[str, dict[str, Any]] = {"chat": chat(), "text": {"model": "tiny", "prompt": "Hi"}}
BOTH = pytest.mark.parametrize("kind", ["chat", "text"])

# A field, its value -> the field of the engine's request and what that must be.
OBEYED: list[tuple[str, Any, str, Any]] = [
    ("frequency_penalty", 0.5, "frequency_penalty", 0.5),
    ("presence_penalty", -0.5, "presence_penalty", -0.5),
    ("logit_bias", {"5": -100}, "logit_bias", {5: -100.0}),
    ("max_tokens", 7, "max_tokens", 7),
    ("n", 2, "n", 2),
    ("seed", 9, "seed", 9),
    ("stop", "x", "stop", ("x",)),
    ("temperature", 0, "temperature", 0.0),
    ("top_p", 0.5, "top_p", 0.5),
    ("top_k", 5, "top_k", 5),
    ("top_k", -1, "top_k", 0),
    ("min_p", 0.1, "min_p", 0.1),
    ("repetition_penalty", 1.5, "repetition_penalty", 1.5),
    ("stop_token_ids", [9], "stop_token_ids", (2, 9)),
    ("include_stop_str_in_output", True, "include_stop_str_in_output", True),
    ("ignore_eos", True, "ignore_eos", True),
    ("min_tokens", 3, "min_tokens", 3),
    ("skip_special_tokens", False, "skip_special_tokens", False),
    ("spaces_between_special_tokens", False, "spaces_between_special_tokens", False),
    ("prompt_logprobs", 2, "prompt_logprobs", 2),
    ("allowed_token_ids", [5, 6], "allowed_token_ids", (5, 6)),
    ("bad_words", ["no"], "bad_words", ("no",)),
    ("priority", -3, "priority", -3),
    ("cache_salt", "s", "cache_salt", "s"),
]
REFUSED: list[tuple[str, Any]] = [
    ("audio", {"voice": "a"}),
    ("chat_template", "{{ x }}"),
    ("documents", [{"text": "x"}]),
    ("functions", [{"name": "f"}]),
    ("function_call", {"name": "f"}),
    ("guided_json", {}),
    ("guided_regex", "a"),
    ("guided_choice", ["a"]),
    ("guided_grammar", "a"),
    ("length_penalty", 2),
    ("modalities", ["audio"]),
    ("prediction", {"type": "content"}),
    ("use_beam_search", True),
    ("web_search_options", {}),
    ("best_of", 3),
]
# Values that no number may have; NaN and Infinity are no JSON, and booleans no numbers.
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "true", '"1"', "[1]", "{}"]


@BOTH
@pytest.mark.parametrize(("name", "value", "field", "expected"), OBEYED)
async def test_obeyed(
    kind: str,
    name: str,
    value: Any,
    field: str,
    expected: Any,
    ranch: Ranch,
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post(URLS[kind], json=BODIES[kind] | {name: value})
    assert answer.status_code == 200
    assert "x-corral-ignored-fields" not in answer.headers
    request = ranch.request
    settings = dataclasses.asdict(request.sampling)
    found = settings[field] if field in settings else getattr(request, field)
    assert found == expected


@BOTH
@pytest.mark.parametrize(("name", "value"), REFUSED)
async def test_refused(
    kind: str, name: str, value: Any, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await client.post(URLS[kind], json=BODIES[kind] | {name: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
    assert ranch.requests == []
    neutral = await client.post(URLS[kind], json=BODIES[kind] | {name: None})
    assert neutral.status_code == 200
    assert "x-corral-ignored-fields" not in neutral.headers


@BOTH
async def test_reported(kind: str, client: httpx.AsyncClient) -> None:
    said = {"zebra": 1, "apple": None, "user": "me", "store": True, "verbosity": "low"}
    answer = await client.post(URLS[kind], json=BODIES[kind] | said)
    assert answer.headers["x-corral-ignored-fields"] == "apple, verbosity, zebra"


async def test_fields_of_the_other_endpoint_are_reported(client: httpx.AsyncClient) -> None:
    for name, value in (("suffix", "x"), ("prompt", "x")):
        answer = await client.post(URLS["chat"], json=chat(**{name: value}))
        assert answer.headers["x-corral-ignored-fields"] == name
    for name, value in (("messages", []), ("tools", []), ("reasoning_effort", "low")):
        answer = await client.post(URLS["text"], json=BODIES["text"] | {name: value})
        assert answer.headers["x-corral-ignored-fields"] == name


async def test_reasoning_effort_where_nothing_reasons(client: httpx.AsyncClient) -> None:
    answer = await client.post(URLS["chat"], json=chat(reasoning_effort="low"))
    assert answer.headers["x-corral-ignored-fields"] == "reasoning_effort"
    answer = await client.post(URLS["chat"], json=chat(reasoning_effort="much"))
    assert answer.json()["error"]["param"] == "reasoning_effort"


@BOTH
@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize(
    "name",
    [
        *("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "top_k"),
        *("max_tokens", "min_tokens", "seed", "n", "prompt_logprobs", "priority"),
        "truncate_prompt_tokens",
    ],
)
async def test_no_numbers(
    kind: str, name: str, value: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    rest = '"messages":[{"role":"user","content":"Hi"}]' if kind == "chat" else '"prompt":"Hi"'
    answer = await client.post(
        URLS[kind],
        content=f'{{"model":"tiny",{rest},"{name}":{value}}}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 400
    no_json = value in NO_NUMBERS[:3]
    assert answer.json()["error"]["param"] == (None if no_json else name)
    assert ranch.requests == []


@BOTH
@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        ("allowed_token_ids", [], "allowed_token_ids"),
        ("allowed_token_ids", [264], "allowed_token_ids"),
        ("allowed_token_ids", [True], "allowed_token_ids.0"),
        ("bad_words", [""], "bad_words.0"),
        ("bad_words", ["x"] * 257, "bad_words"),
        ("bad_words", "x", "bad_words"),
        ("cache_salt", "", "cache_salt"),
        ("prompt_logprobs", 21, "prompt_logprobs"),
        ("truncate_prompt_tokens", -2, "truncate_prompt_tokens"),
        ("priority", 2**31, "priority"),
    ],
)
async def test_wrong_values(
    kind: str, name: str, value: Any, param: str, ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await client.post(URLS[kind], json=BODIES[kind] | {name: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert ranch.requests == []
