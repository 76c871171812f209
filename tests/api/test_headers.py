"""Headers of every response: the request's id, and how long it took."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.support.ranch import Ranch, chat

URL = "/v1/chat/completions"
EVERYWHERE = pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", URL, chat(), id="an answer"),
        pytest.param("POST", URL, chat(stream=True), id="a stream"),
        pytest.param("POST", URL, chat("nobody"), id="an error"),
        pytest.param("GET", "/v1/models", None, id="models"),
        pytest.param("GET", "/nowhere", None, id="no such page"),
    ],
)


@EVERYWHERE
async def test_a_request_without_an_id_is_given_one(
    method: str, path: str, body: object, client: httpx.AsyncClient
) -> None:
    answers = [await client.request(method, path, json=body) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(re.fullmatch("req_[0-9a-f]{32}", one) for one in ids)
    assert ids[0] != ids[1]


@EVERYWHERE
async def test_an_id_comes_back(
    method: str, path: str, body: object, client: httpx.AsyncClient
) -> None:
    answer = await client.request(method, path, json=body, headers={"X-Request-Id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize("given", ["a b", "x" * 129, "é".encode(), ""])
async def test_an_id_that_is_no_header_is_replaced(
    given: str | bytes, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/health", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"].startswith("req_")


async def test_the_time_until_the_status_was_ready(ranch: Ranch, client: httpx.AsyncClient) -> None:
    ranch.play(0.05)
    answer = await client.post(URL, json=chat(stream=True))
    assert 50 <= int(answer.headers["openai-processing-ms"]) < 5000
