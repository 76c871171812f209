"""Who a browser is to the chat page's server, and what it may do to others: nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import httpx
import pytest

from server import __version__
from server.api.admin.options import AdminOptions
from tests.support.page import COOKIE, NOT_STORED, another, arrive, begin, cookie, say
from tests.support.ranch import Ranch, chat, error, in_process

KEYS = ["sk-corral-first-of-two", "sk-corral-second"]
UNKNOWN = error(
    "This browser is not known here yet. GET /ui/session gives it a cookie.", code="no_session"
)
FOREIGN = error("Web pages of other origins may not change anything here.", code="foreign_origin")


@pytest.fixture
def ranch(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    return make_ranch(database_url=database_url)


@pytest.fixture
def locked(make_ranch: Callable[..., Ranch], database_url: str) -> Ranch:
    return make_ranch(database_url=database_url, keys=KEYS)


@pytest.fixture
async def keyless(locked: Ranch) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with in_process(locked) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_first_visit(client: httpx.AsyncClient) -> None:
    answer = await client.get("/ui/session")
    assert answer.json() == {
        "version": __version__,
        "needs_key": False,
        "signed_in": True,
        "admin": "closed",
        "stored": True,
    }
    name, value = cookie(client)
    assert answer.headers["set-cookie"] == (
        f"{name}={value}; HttpOnly; Max-Age=31536000; Path=/; SameSite=strict"
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_next_visit_is_the_same_visitors(client: httpx.AsyncClient) -> None:
    await client.get("/ui/session")
    name, value = cookie(client)
    # Sent again, so that the year begins anew.
    answer = await client.get("/ui/session")
    assert answer.headers["set-cookie"].startswith(f"{name}={value};")


async def test_the_cookie_goes_over_https_alone_where_it_came_so(ranch: Ranch) -> None:
    async with in_process(ranch) as client:
        for url, forwarded, secure in (
            ("https://corral/ui/session", None, True),
            ("http://corral/ui/session", "https", False),
        ):
            headers = {"x-forwarded-proto": forwarded} if forwarded else {}
            said = (await client.get(url, headers=headers)).headers["set-cookie"]
            assert said.endswith("; Secure") is secure


async def test_a_visitor_survives_a_restart(
    ranch: Ranch, make_ranch: Callable[..., Ranch], database_url: str
) -> None:
    async with in_process(ranch) as client:
        await arrive(client)
        number = await begin(client, title="Kept")
        name, value = cookie(client)
    async with in_process(make_ranch(database_url=database_url)) as client:
        client.cookies.set(name, value)
        assert (await client.get(f"/ui/chats/{number}")).json()["title"] == "Kept"


async def test_nobody_is_known_without_a_cookie(client: httpx.AsyncClient) -> None:
    for method, path in (("GET", "/ui/chats"), ("POST", "/ui/chats"), ("GET", "/ui/export")):
        answer = await client.request(method, path, json={} if method == "POST" else None)
        assert (answer.status_code, answer.json()) == (401, UNKNOWN)


async def test_forged_cookies(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await arrive(client)
    name, mine = cookie(client)
    visitor, signature = mine.split(".")
    async with another(ranch) as other:
        await arrive(other)
        foreign = cookie(other)[1].split(".")[0]
    forged = [
        f"{foreign}.{signature}",
        f"{visitor}.{'0' * 64}",
        f"{visitor}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{visitor}.{signature.upper()}",
        f"{visitor}.{signature[:-1]}",
        f"{visitor}",
        f"{visitor}.",
        f".{signature}",
        "",
        "x" * 5000,
    ]
    for value in forged:
        async with another(ranch) as thief:
            answer = await thief.get("/ui/chats", headers={"cookie": f"{name}={value}"})
            assert (value, answer.status_code) == (value, 401)
            # A new one is made, and not signed for what was sent.
            await thief.get("/ui/session", headers={"cookie": f"{name}={value}"})
            assert visitor not in cookie(thief)[1]


async def test_a_secret_of_another_database_signs_nothing_here(
    ranch: Ranch, make_ranch: Callable[..., Ranch], database_url: str
) -> None:
    other = make_ranch(database_url=database_url.replace("corral.db", "other.db"))
    async with in_process(other) as client:
        elsewhere, value = cookie(await arrive(client))
    async with in_process(ranch) as client:
        here, _ = cookie(await arrive(client))
        for name in (here, elsewhere):
            client.cookies = httpx.Cookies({name: value})
            assert (await client.get("/ui/chats")).status_code == 401


async def test_servers_of_two_databases_on_one_machine_share_a_browser(
    ranch: Ranch, make_ranch: Callable[..., Ranch], database_url: str
) -> None:
    other = make_ranch(database_url=database_url.replace("corral.db", "other.db"))
    async with in_process(ranch) as here, in_process(other) as there:
        # As with two ports of one host, which have one jar.
        jar = here.cookies.jar
        await arrive(here)
        number = await begin(here, title="Mine")
        there.cookies = httpx.Cookies(jar)
        await there.get("/ui/session")
        assert (await there.get("/ui/chats")).json()["data"] == []
        here.cookies = httpx.Cookies(there.cookies)
        await here.get("/ui/session")
        assert (await here.get(f"/ui/chats/{number}")).json()["title"] == "Mine"


async def test_visitors_do_not_see_each_other(ranch: Ranch, client: httpx.AsyncClient) -> None:
    await arrive(client)
    mine = await begin(client, title="Mine")
    said = await say(client, mine, None, "Secret")
    await client.put("/ui/presets", json={"data": [{"name": "a", "settings": {}}]})
    async with another(ranch) as other:
        await arrive(other)
        own = await begin(other, title="Own")
        assert [one["id"] for one in (await other.get("/ui/chats")).json()["data"]] == [own]
        assert (await other.get("/ui/chats?q=secret")).json()["data"] == []
        assert (await other.get("/ui/presets")).json() == {"data": []}
        assert b"Secret" not in (await other.get("/ui/export")).content
        path = f"/ui/chats/{mine}"
        message = {"parent": None, "role": "user", "content": "x"}
        for method, where, body in (
            ("GET", path, None),
            ("PATCH", path, {"title": "Theirs"}),
            ("DELETE", path, None),
            ("GET", f"{path}/messages", None),
            ("GET", f"{path}/export", None),
            ("GET", f"{path}/export?format=markdown", None),
            ("POST", f"{path}/messages", message),
            ("PATCH", f"{path}/messages/{said}", {"content": "x"}),
            ("DELETE", f"{path}/messages/{said}", None),
        ):
            answer = await other.request(method, where, json=body)
            assert (method, where, answer.status_code) == (method, where, 404)
            assert answer.json() == error(f"Chat with id '{mine}' not found.")
        # A message of somebody else's chat is in none of one's own.
        for method in ("PATCH", "DELETE"):
            answer = await other.request(
                method, f"/ui/chats/{own}/messages/{said}", json={} if method == "PATCH" else None
            )
            assert answer.json() == error(f"Message with id '{said}' not found.")
        for body in (message | {"parent": said}, {"leaf": said}):
            where = f"/ui/chats/{own}" + ("/messages" if "role" in body else "")
            answer = await other.request("POST" if "role" in body else "PATCH", where, json=body)
            assert answer.status_code == 400
            assert f"There is no message '{said}' in this chat." in answer.text
    assert (await client.get(path)).json()["title"] == "Mine"
    assert (await client.get(f"{path}/messages")).json()["data"][0]["content"] == "Secret"


async def test_a_session_where_keys_are_needed(keyless: httpx.AsyncClient) -> None:
    for headers, signed_in in (
        ({}, False),
        (bearer("wrong"), False),
        (bearer(KEYS[0]), True),
        ({"x-api-key": KEYS[1]}, True),
    ):
        answer = await keyless.get("/ui/session", headers=headers)
        assert answer.json() == {
            "version": __version__,
            "needs_key": True,
            "signed_in": signed_in,
            "admin": "closed",
            "stored": True,
        }
        assert "set-cookie" not in answer.headers


async def test_who_may_operate_the_server(
    make_ranch: Callable[..., Ranch], database_url: str
) -> None:
    async def told(admin: AdminOptions, **headers: str) -> str:
        async with in_process(make_ranch(database_url=database_url, admin=admin)) as client:
            answer = await client.get("http://127.0.0.1:8000/ui/session", headers=headers)
            state: str = answer.json()["admin"]
            return state

    assert await told(AdminOptions()) == "closed"
    assert await told(AdminOptions(local=True)) == "open"
    assert await told(AdminOptions(local=True), **{"x-forwarded-for": "10.0.0.1"}) == "closed"
    assert await told(AdminOptions(local=True), host="evil.example") == "closed"
    assert await told(AdminOptions(keys=["an-admin-key"])) == "key"


async def test_each_key_has_its_own_chats(keyless: httpx.AsyncClient, locked: Ranch) -> None:
    one, two = (another(locked, headers=bearer(key)) for key in KEYS)
    async with one, two:
        mine = await begin(one, title="Mine")
        assert (await two.get(f"/ui/chats/{mine}")).status_code == 404
        assert (await two.get("/ui/chats")).json() == {"data": [], "next": None}
        assert (await one.get(f"/ui/chats/{mine}")).json()["title"] == "Mine"
    # A cookie is no key.
    answer = await keyless.get("/ui/chats", headers={"cookie": f"{COOKIE}={'0' * 32}.{'0' * 64}"})
    assert answer.status_code == 401


CHANGES = [
    ("POST", "/ui/chats", {}),
    ("PATCH", "/ui/chats/{chat}", {"title": "x"}),
    ("DELETE", "/ui/chats/{chat}", None),
    ("POST", "/ui/chats/{chat}/messages", {"parent": None, "role": "user", "content": "x"}),
    ("PUT", "/ui/presets", {"data": []}),
    ("POST", "/ui/import", {"format": "corral-chats", "version": 1, "chats": []}),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://corral:8000"},
        {"origin": "http://corral.evil.example"},
        {"origin": "http://sub.corral"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://corral"},
    ],
)
async def test_pages_of_other_origins_change_nothing(
    method: str,
    path: str,
    body: object,
    headers: dict[str, str],
    client: httpx.AsyncClient,
) -> None:
    await arrive(client)
    number = await begin(client, title="Mine")
    answer = await client.request(method, path.format(chat=number), json=body, headers=headers)
    assert (answer.status_code, answer.json()) == (403, FOREIGN)
    assert (await client.get("/ui/chats")).json()["data"][0]["title"] == "Mine"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://corral", "sec-fetch-site": "same-origin"},
        # A proxy in front speaks TLS.
        {"origin": "https://corral"},
        {"origin": "HTTP://Corral"},
        {"sec-fetch-site": "none"},
        {},
    ],
)
async def test_the_own_page_and_programs_change_things(
    method: str,
    path: str,
    body: object,
    headers: dict[str, str],
    client: httpx.AsyncClient,
) -> None:
    await arrive(client)
    number = await begin(client)
    answer = await client.request(method, path.format(chat=number), json=body, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), [c for c in CHANGES if c[2] is not None])
@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_what_a_form_can_send_changes_nothing(
    method: str, path: str, body: object, media: str | None, client: httpx.AsyncClient
) -> None:
    await arrive(client)
    number = await begin(client)
    headers = {"content-type": media} if media else {}
    answer = await client.request(method, path.format(chat=number), content=b"{}", headers=headers)
    assert answer.status_code == 415


async def test_no_cors(client: httpx.AsyncClient) -> None:
    await arrive(client)
    origin = {"origin": "http://evil.example"}
    for path in ("/ui/session", "/ui/chats", "/ui/nothing", "/"):
        answer = await client.get(path, headers=origin)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    asked = origin | {
        "access-control-request-method": "PUT",
        "access-control-request-headers": "content-type",
    }
    answer = await client.options("/ui/presets", headers=asked)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    # The API is open as ever.
    answer = await client.get("/v1/models", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_without_a_database_the_page_chats_and_keeps_nothing(
    make_ranch: Callable[..., Ranch],
) -> None:
    async with in_process(make_ranch()) as client:
        answer = await client.get("/ui/session")
        assert (answer.status_code, answer.json()["stored"]) == (200, False)
        assert "set-cookie" not in answer.headers
        assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
        cookie = {"cookie": f"{COOKIE}={'0' * 32}.{'0' * 64}"}
        for method, path, body in [*CHANGES, ("GET", "/ui/chats", None)]:
            answer = await client.request(method, path, json=body, headers=cookie)
            if "{chat}" not in path:
                assert (path, answer.status_code, answer.json()) == (path, 503, NOT_STORED)


async def test_a_damaged_database(make_ranch: Callable[..., Ranch], database_url: str) -> None:
    with open(database_url.removeprefix("sqlite:///"), "wb") as file:  # noqa: ASYNC230, PTH123
        file.write(b"no database at all " * 100)
    async with in_process(make_ranch(database_url=database_url, keys=KEYS)) as client:
        client.headers.update(bearer(KEYS[0]))
        assert (await client.get("/ui/session")).json()["stored"] is False
        answer = await client.get("/ui/chats")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "storage_failed"
        assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
