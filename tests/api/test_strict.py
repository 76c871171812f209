"""Strict mode: a field that nobody knows is an error instead of a header."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.support.ranch import Ranch, chat, error, in_process

CHAT = "/v1/chat/completions"
COMPLETION = {"model": "tiny", "prompt": "x"}
REFUSED = error(
    "Unknown parameter: 'colour'. Leave it out, or leave strict mode.",
    param="colour",
    code="unknown_parameter",
)


@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT, chat()), (f"{CHAT}/render", chat()), ("/v1/completions", COMPLETION)],
)
async def test_on_request(
    path: str, body: dict[str, object], ranch: Ranch, client: httpx.AsyncClient
) -> None:
    answer = await client.post(f"{path}?strict=true", json=body | {"colour": "red"})
    assert (answer.status_code, answer.json()) == (400, REFUSED)
    assert ranch.requests == []
    assert (await client.post(f"{path}?strict=true", json=body | {"user": "me"})).is_success
    answer = await client.post(path, json=body | {"colour": "red"})
    assert answer.headers["x-corral-ignored-fields"] == "colour"


async def test_as_the_server_is_set(make_ranch: Callable[..., Ranch]) -> None:
    async with in_process(make_ranch(strict=True)) as client:
        body = chat(colour="red")
        assert (await client.post(CHAT, json=body)).json() == REFUSED
        assert (await client.post(f"{CHAT}?strict=false", json=body)).is_success


async def test_fields_without_effect_on_this_model_count(client: httpx.AsyncClient) -> None:
    body = chat(reasoning_effort="low")
    answer = await client.post(CHAT, json=body)
    assert answer.headers["x-corral-ignored-fields"] == "reasoning_effort"
    answer = await client.post(f"{CHAT}?strict=true", json=body)
    assert answer.json()["error"]["param"] == "reasoning_effort"


async def test_neither_yes_nor_no(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{CHAT}?strict=perhaps", json=chat(colour="red"))
    assert answer.json() == error("'strict' must be true or false.", param="strict")
