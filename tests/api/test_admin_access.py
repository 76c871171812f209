"""Who may operate a server, and which web pages may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from server.api.admin.options import AdminOptions
from tests.support.admin import LOCAL
from tests.support.ranch import Ranch, chat, error, in_process

KEY, ADMIN = "sk-of-somebody", "sk-of-the-admin"
SET_A_KEY = (
    "Set CORRAL_ADMIN_KEY (or --admin-key) and send the key as 'Authorization: Bearer ADMIN_KEY'."
)
CLOSED = error(f"The admin API of this server is closed. {SET_A_KEY}", code="admin_closed")
PROXIED = error(
    f"The request came through a proxy, so anybody may have sent it. {SET_A_KEY}",
    code="admin_closed",
)
HOST = error(
    "Without an admin key this is answered under localhost or an IP address alone, not under other "
    f"host names. {SET_A_KEY}",
    code="foreign_origin",
)
ORIGIN = error(
    f"Web pages of other origins may not operate this server. {SET_A_KEY}", code="foreign_origin"
)
NOT_ADMIN = error(
    "This key may use the models and not operate the server. Send one of CORRAL_ADMIN_KEY.",
    code="admin_closed",
)
MakeRanch = Callable[..., Ranch]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def ask(ranch: Ranch, headers: dict[str, str], url: str = LOCAL) -> tuple[int, Any]:
    """Status and body of an answer to a harmless question."""
    async with in_process(ranch, url) as client:
        answer = await client.get("/admin/memory", headers=headers)
        return answer.status_code, answer.json() if answer.status_code != 200 else None


async def test_without_any_key_the_machines_users_may(make_ranch: MakeRanch) -> None:
    ranch = make_ranch(admin=AdminOptions(local=True))
    for url in (
        LOCAL,
        "http://localhost:8000",
        "http://LOCALHOST",
        "http://[::1]:8000",
        "http://10.1.2.3:8000",  # an address is nobody's name: no DNS leads it elsewhere
    ):
        assert (url, *await ask(ranch, {}, url)) == (url, 200, None)
    assert await ask(ranch, bearer("anything")) == (200, None)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "127.0.0.1:8000@evil.example",
        "localhost:80:80",
        "2130706433",
        "0x7f.0.0.1",
        "127.1",
        "[::1].evil.example",
        "localhost/",
        " ",
        "",
    ],
)
async def test_a_name_that_was_pointed_at_this_machine_opens_nothing(
    host: str, make_ranch: MakeRanch
) -> None:
    ranch = make_ranch(admin=AdminOptions(local=True))
    assert await ask(ranch, {"host": host}) == (403, HOST)


async def test_neither_do_two_hosts_or_none(make_ranch: MakeRanch) -> None:
    ranch = make_ranch(admin=AdminOptions(local=True))
    for hosts in ([], [b"localhost", b"evil.example"], [b"evil.example", b"localhost"]):
        assert (await raw(ranch, "GET", [(b"host", host) for host in hosts]))[0] == 403


async def raw(ranch: Ranch, method: str, headers: list[tuple[bytes, bytes]]) -> tuple[int, Any]:
    """Status and headers of an answer to a request as it may come from anything."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/admin/memory", "headers": headers}
    await ranch.app(scope | {"query_string": b"", "http_version": "1.1"}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:8000"},  # another origin than 127.0.0.1:8000
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "http://127.0.0.1"},
        {"origin": "null"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-site"},
    ],
)
async def test_pages_of_other_origins_may_not(
    headers: dict[str, str], make_ranch: MakeRanch
) -> None:
    ranch = make_ranch(admin=AdminOptions(local=True))
    assert await ask(ranch, headers) == (403, ORIGIN)


async def test_pages_of_the_server_itself_may(make_ranch: MakeRanch) -> None:
    ranch = make_ranch(admin=AdminOptions(local=True))
    for headers in (
        {"origin": LOCAL, "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},  # typed into the address bar
    ):
        assert await ask(ranch, headers) == (200, None)


async def test_a_page_cannot_even_ask_whether_it_may(make_ranch: MakeRanch) -> None:
    """No CORS headers, whoever asks and whatever opens the door."""
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for options in (AdminOptions(local=True), AdminOptions(keys=[ADMIN])):
        ranch = make_ranch(admin=options)
        async with in_process(ranch, LOCAL) as client:
            for path in ("/admin/models/tiny/unload", "/admin/reload", "/admin/none", "/admin"):
                answers = [
                    await client.options(path, headers=preflight),
                    await client.post(path, headers=preflight | bearer(ADMIN)),
                ]
                for answer in answers:
                    found = [name for name in answer.headers if name.startswith("access-control")]
                    assert (path, found) == (path, [])
                    assert answer.headers.get("vary") is None
            # The rest of the API stays open to pages.
            answer = await client.options("/v1/models", headers=preflight)
            assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_form_of_another_page_does_nothing(make_ranch: MakeRanch) -> None:
    """What a browser sends without asking first: a POST without a body, or one of plain text."""
    ranch = make_ranch(admin=AdminOptions(local=True))
    async with in_process(ranch, LOCAL) as client:
        await client.post("/v1/chat/completions", json=chat())
        for body in ({}, {"content": b"{}", "headers": {"content-type": "text/plain"}}):
            headers = {"origin": "https://evil.example"} | body.pop("headers", {})  # type: ignore[arg-type,operator]
            answer = await client.post("/admin/models/tiny/unload", headers=headers, **body)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()) == (403, ORIGIN)
        assert ranch.herd.resolve("tiny").engines.state.status == "ready"


@pytest.mark.parametrize(
    "header", ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host", "via"]
)
async def test_behind_a_proxy_everybody_looks_local(header: str, make_ranch: MakeRanch) -> None:
    ranch = make_ranch(admin=AdminOptions(local=True))
    assert await ask(ranch, {header: "1.2.3.4"}) == (403, PROXIED)


async def test_on_a_network_without_an_admin_key_nobody_may(make_ranch: MakeRanch) -> None:
    assert await ask(make_ranch(admin=AdminOptions(local=False)), {}) == (403, CLOSED)
    assert await ask(make_ranch(), bearer(ADMIN)) == (403, CLOSED)


async def test_api_keys_alone_close_it(make_ranch: MakeRanch) -> None:
    ranch = make_ranch(keys=[KEY], admin=AdminOptions(local=True))
    assert await ask(ranch, bearer(KEY)) == (403, CLOSED)
    assert (await ask(ranch, {}))[0] == 401


async def test_an_admin_key_alone_opens_it_and_leaves_the_api_open(make_ranch: MakeRanch) -> None:
    ranch = make_ranch(admin=AdminOptions(keys=[ADMIN, "another"], local=True))
    async with in_process(ranch) as client:  # by whatever name
        assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
    for headers in (bearer(ADMIN), bearer("another"), {"x-api-key": ADMIN}):
        assert await ask(ranch, headers, "http://corral.example") == (200, None)
    status, body = await ask(ranch, {})
    assert (status, body["error"]["code"]) == (401, None)
    status, body = await ask(ranch, bearer("sk-of-nobody-at-all"))
    assert (status, body) == (
        401,
        error(
            "Incorrect API key provided: sk-***ll. Ask the operator of this server for one.",
            code="invalid_api_key",
        ),
    )


async def test_both_kinds_of_keys(make_ranch: MakeRanch) -> None:
    ranch = make_ranch(keys=[KEY], admin=AdminOptions(keys=[ADMIN]))
    assert await ask(ranch, bearer(ADMIN)) == (200, None)
    assert await ask(ranch, bearer(KEY)) == (403, NOT_ADMIN)
    assert (await ask(ranch, {}))[0] == 401
    ranch = make_ranch(keys=[KEY], admin=AdminOptions(keys=[ADMIN]))
    async with in_process(ranch) as client:
        for key, status in ((ADMIN, 200), (KEY, 200), ("no", 401)):
            answer = await client.post("/v1/chat/completions", json=chat(), headers=bearer(key))
            assert answer.status_code == status


async def test_every_route_is_guarded(make_ranch: MakeRanch) -> None:
    ranch = make_ranch(admin=AdminOptions(local=False))
    async with in_process(ranch) as client:
        description = (await client.get("/openapi.json")).json()["paths"]
        admin = [path for path in description if path.startswith("/admin")]
        assert len(admin) == 7
        for path in admin:
            url = path.replace("{model}", "tiny").replace("{action}", "load")
            for method in description[path]:
                answer: httpx.Response = await client.request(method, url, json={})
                assert (method, path, answer.status_code) == (method, path, 403)
                assert answer.json() == CLOSED


async def test_code_of_others_needs_a_key(make_ranch: MakeRanch, database_url: str) -> None:
    """Every user of the machine is let in, and must not run code as the server's user."""
    entry = {
        "id": "x",
        "source": {"directory": "/tmp/x"},
        "load": "on_demand",
        "engine": {"extra": {"trust_remote_code": True}},
    }
    expected = error(
        "'engine.extra' can make the server run other people's code, so it is taken from admins "
        "with a key alone. Set CORRAL_ADMIN_KEY, or write the entry into the registry file.",
        code="admin_key_required",
    )
    for options, status in ((AdminOptions(local=True), 403), (AdminOptions(keys=[ADMIN]), 201)):
        ranch = make_ranch(database_url=database_url, admin=options)
        async with in_process(ranch, LOCAL) as client:
            answer = await client.post("/admin/models", json=entry, headers=bearer(ADMIN))
            assert answer.status_code == status
            if status == 403:
                assert answer.json() == expected
