"""Keys guard every route; CORS lets browsers in, and shows them the errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute, Route

from tests.support.ranch import Ranch, chat, in_process

CHAT = "/v1/chat/completions"
OPEN = {"/health", "/ui/session"}
# Files without secrets; what the page asks for then needs a key.
PAGE = {"/", "/c/{id}", "/compare", "/herd", "/settings", "/assets/{name:path}"}
KEY = "sk-corral-first-of-two"
MISSING = {
    "error": {
        "message": "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY' "
        "(the api_key of an OpenAI client).",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
}


def incorrect(shown: str) -> dict[str, Any]:
    """The answer to a wrong key, of which this is shown."""
    return {
        "error": {
            "message": f"Incorrect API key provided: {shown}. Ask the operator of this server for "
            "one.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }


@pytest.fixture
def locked(make_ranch: Callable[..., Ranch]) -> Ranch:
    return make_ranch(keys=[KEY, "two"], max_body_bytes=2048)


@pytest.fixture
async def stranger(locked: Ranch) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with in_process(locked) as client:
        yield client


def routes(app: Any) -> Iterator[tuple[str, str]]:
    """Every path and method of an application."""
    while not hasattr(app, "routes"):
        app = app.app

    def walk(found: list[BaseRoute]) -> Iterator[tuple[str, str]]:
        for route in found:
            assert isinstance(route, Route), f"{route} is of a kind this test does not know"
            for method in route.methods or ():
                yield method, route.path

    return walk(app.routes)


async def test_every_route_wants_a_key(locked: Ranch, stranger: httpx.AsyncClient) -> None:
    found = sorted(routes(locked.app))
    paths = {path for _, path in found}
    assert {"/v1/chat/completions", "/completions", "/v1/models", "/version"} <= paths
    assert {"/v1/messages", "/v1/messages/count_tokens", "/tokenize", "/detokenize"} <= paths
    assert {"/openapi.json", "/v1/models/{model:path}"} <= paths
    assert {"/admin/models", "/admin/memory", "/admin/events", "/admin/reload"} <= paths
    assert not {"/docs", "/redoc"} & paths
    assert paths >= OPEN | PAGE
    for method, path in found:
        answer = await stranger.request(method, path.replace("{model:path}", "tiny"))
        if path in OPEN | PAGE:
            # The page was not built here.
            assert (path, answer.status_code) == (path, 404 if path in PAGE else 200)
            continue
        assert (method, path, answer.status_code) == (method, path, 401)
        if path.removeprefix("/v1").startswith("/messages"):
            assert answer.json()["error"]["type"] == "authentication_error"
        else:
            assert answer.json() == MISSING
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_opens_what_it_guards(locked: Ranch, stranger: httpx.AsyncClient) -> None:
    for _, path in (item for item in routes(locked.app) if item[0] == "GET"):
        asked = path.replace("{model:path}", "tiny").replace("{chat_id}", "chat_1")
        answer = await stranger.get(asked, headers={"authorization": f"Bearer {KEY}"})
        # This server has no database, no admin key and no page.
        stored = any(part in path for part in ("/responses", "/conversations", "/ui/"))
        status = 503 if stored and path not in OPEN else 404 if path in PAGE else 200
        expected = 403 if path.startswith("/admin") else status
        assert (path, answer.status_code) == (path, expected)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": "bearer  two "},
        {"x-api-key": "two"},
        {"api-key": KEY},
        {"authorization": "Basic xyz", "x-api-key": "two"},
        {"authorization": "Bearer ", "x-api-key": "two"},
    ],
)
async def test_accepted_headers(headers: dict[str, str], stranger: httpx.AsyncClient) -> None:
    assert (await stranger.post(CHAT, json=chat(), headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("sk-corral-first-of-twO", "sk-***wO"),
        ("short", "***"),
        (KEY + "x", "sk-***ox"),
        ("tw", "***"),
    ],
)
async def test_a_wrong_key(key: str, shown: str, stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/v1/models", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 401
    assert answer.json() == incorrect(shown)


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key"])
@pytest.mark.parametrize("key", ["schlüssel-schlüssel", "ключ", "二" * 12])
async def test_a_key_that_is_not_ascii(key: str, name: str, stranger: httpx.AsyncClient) -> None:
    value = (b"Bearer " if name == "authorization" else b"") + key.encode()
    answer = await stranger.get("/v1/models", headers={name.encode(): value})
    assert answer.status_code == 401
    assert answer.json() == incorrect("***")


@pytest.mark.parametrize(
    "request_of",
    [
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"json": {"model": 5}},
        {"content": b"x", "headers": {"content-type": "text/plain"}},
        {"content": b" " * 5000, "headers": {"content-type": "application/json"}},
    ],
)
async def test_the_key_comes_before_the_body(
    request_of: dict[str, Any], stranger: httpx.AsyncClient
) -> None:
    answer = await stranger.post(CHAT, **request_of)
    assert (answer.status_code, answer.json()) == (401, MISSING)


async def test_not_a_byte_is_read_of_a_stranger(stranger: httpx.AsyncClient) -> None:
    read = 0

    async def body() -> AsyncGenerator[bytes, None]:
        nonlocal read
        while read < 10:
            read += 1
            yield b"x" * 100

    assert (await stranger.post(CHAT, content=body())).status_code == 401
    assert read == 0


async def test_the_host_header_opens_nothing(stranger: httpx.AsyncClient) -> None:
    for host in ("x/health?", "x/health#", "/health?"):
        answer = await stranger.get("/v1/models", headers={"host": host})
        assert answer.status_code == 401


@pytest.mark.parametrize("path", ["//health", "/health/", "/health%2F", "/HEALTH"])
async def test_only_health_itself_is_public(path: str, stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get(path)
    assert answer.status_code in (307, 404)


async def test_a_preflight_needs_no_key(stranger: httpx.AsyncClient) -> None:
    asked = "authorization,content-type,x-stainless-lang,x-stainless-retry-count"
    answer = await stranger.options(
        CHAT,
        headers={
            "origin": "https://chat.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": asked,
        },
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == asked
    assert "POST" in answer.headers["access-control-allow-methods"]


async def test_errors_carry_cors_headers(stranger: httpx.AsyncClient) -> None:
    origin = {"origin": "https://chat.example"}
    open_door = origin | {"x-api-key": "two"}
    for path, headers, status in (
        ("/v1/models", origin, 401),
        ("/v1/nothing", open_door, 404),
        ("/v1/models/nobody", open_door, 404),
        (CHAT, open_door, 405),
        ("/v1/models", open_door, 200),
    ):
        answer = await stranger.get(path, headers=headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-expose-headers"] == "*"
    answer = await stranger.post(CHAT, content=b" " * 5000, headers=open_door)
    assert answer.status_code == 413
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_without_keys_everybody_is_let_in(client: httpx.AsyncClient) -> None:
    for headers in ({}, {"authorization": "Bearer anything"}):
        assert (await client.get("/v1/models", headers=headers)).status_code == 200
