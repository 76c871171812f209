"""The chat page's files: who gets which, and under which guard."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import httpx
import pytest

from tests.support.page import write_page
from tests.support.ranch import Ranch, in_process, listening

GUARDS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "font-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PAGE = "<!doctype html><title>A page</title>"
PLAIN = {"accept-encoding": "identity"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_page(tmp_path / "static")


@pytest.fixture
async def client(
    make_ranch: Callable[..., Ranch], folder: Path
) -> AsyncGenerator[httpx.AsyncClient, None]:
    # A key is needed for everything but the page.
    async with in_process(make_ranch(page_folder=folder, keys=["a-key"])) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/c/chat_1", "/compare", "/herd", "/settings"])
@pytest.mark.parametrize("accept", [BROWSER["accept"], "*/*", "text/*", None])
async def test_the_page(path: str, accept: str | None, client: httpx.AsyncClient) -> None:
    del client.headers["accept"]
    answer = await client.get(path, headers={"accept": accept} if accept else {})
    assert (answer.status_code, answer.text) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert {name: answer.headers[name] for name in GUARDS} == GUARDS
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/", "/c/chat_1", "/herd"])
@pytest.mark.parametrize("accept", ["application/json", "text/html;q=0, application/json"])
async def test_programs_are_told_that_no_endpoint_is_there(
    path: str, accept: str, client: httpx.AsyncClient
) -> None:
    answer = await client.get(path, headers={"accept": accept})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"


@pytest.mark.parametrize(
    "path", ["/nothing", "/c", "/c/", "/c/a/b", "/v1/nothing", "/ui/nothing", "/index.html"]
)
async def test_other_paths_are_no_page(path: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(path, headers=BROWSER, follow_redirects=True)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"


async def test_an_endpoint_is_no_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models", headers=BROWSER)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("accepted", "encoding", "content"),
    [
        ("gzip, deflate, br, zstd", "br", b"as brotli"),
        ("gzip, deflate", "gzip", b"as gzip"),
        ("br;q=0, gzip;q=0.5", "gzip", b"as gzip"),
        ("GZIP", "gzip", b"as gzip"),
        ("identity", None, b"plain script"),
        ("", None, b"plain script"),
    ],
)
async def test_files_are_sent_as_small_as_the_browser_takes_them(
    accepted: str, encoding: str | None, content: bytes, client: httpx.AsyncClient
) -> None:
    headers = {"accept-encoding": accepted}
    async with client.stream("GET", "/assets/index-x1.js", headers=headers) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert (answer.status_code, raw) == (200, content)
    assert answer.headers.get("content-encoding") == encoding
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert {name: answer.headers[name] for name in GUARDS} == GUARDS


async def test_a_file_with_one_form(client: httpx.AsyncClient) -> None:
    answer = await client.get("/assets/font-x2.woff2")
    assert (answer.content, answer.headers["content-type"]) == (b"font", "font/woff2")
    assert "vary" not in answer.headers
    assert "content-encoding" not in answer.headers
    icon = await client.get("/favicon.svg")
    assert (icon.text, icon.headers["content-type"]) == ("<svg/>", "image/svg+xml")
    assert icon.headers["cache-control"] == "no-cache"


async def test_what_a_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    tags = {}
    for path, headers in (
        ("/", {}),
        ("/assets/index-x1.js", PLAIN),
        ("/assets/index-x1.js", {"accept-encoding": "gzip"}),
    ):
        async with client.stream("GET", path, headers=headers) as answer:
            tag = tags[path, str(headers)] = answer.headers["etag"]
        for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            again = await client.get(path, headers=headers | {"if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
            assert again.headers["cache-control"] == answer.headers["cache-control"]
        other = await client.get(path, headers=PLAIN | {"if-none-match": '"other"'})
        assert other.status_code == 200
    # One tag, one content.
    assert len(set(tags.values())) == 3


@pytest.mark.parametrize("path", ["/", "/assets/index-x1.js"])
async def test_head(path: str, client: httpx.AsyncClient) -> None:
    answer = await client.head(path, headers=PLAIN)
    whole = await client.get(path, headers=PLAIN)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(whole.content))
    assert (await client.post(path, headers={"authorization": "Bearer a-key"})).status_code == 405


STOLEN = [
    "/assets/../index.html",
    "/assets/../.stamp",
    "/assets/..%2f.stamp",
    "/assets/%2e%2e/%2e%2e/secret.txt",
    "/assets/..%2f..%2fsecret.txt",
    "/assets/....//....//secret.txt",
    "/assets/%252e%252e%252fsecret.txt",
    "/assets//etc/passwd",
    "/assets/%2fetc%2fpasswd",
    "/assets/..\\..\\secret.txt",
    "/assets/index-x1.js.br",
    "/assets/index-x1.js%00.css",
    "/assets/",
    "/assets/link.txt/../../../secret.txt",
    "/.stamp",
    "/../secret.txt",
    "/%2e%2e/secret.txt",
]


@pytest.mark.parametrize("path", STOLEN)
async def test_no_other_file_can_be_had(path: str, client: httpx.AsyncClient) -> None:
    # As it is written: httpx would tidy it up.
    scope = httpx.URL("http://corral", raw_path=path.encode())
    answer = await client.send(httpx.Request("GET", scope))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"


async def test_no_other_file_can_be_had_through_a_socket(
    make_ranch: Callable[..., Ranch], folder: Path
) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    async with listening(make_ranch(page_folder=folder)) as url, httpx.AsyncClient() as client:
        for path in STOLEN:
            sent = httpx.URL(url, raw_path=path.encode())
            answer = await client.send(httpx.Request("GET", sent))
            assert (path, answer.status_code) == (path, 404)
        page = await client.get(url, headers=BROWSER)
        assert page.text == PAGE


NOTICE = "Its chat page was not built"


@pytest.mark.parametrize("files", [[], ["assets/index-x1.js"]])
async def test_a_server_without_a_page(
    files: list[str], make_ranch: Callable[..., Ranch], tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / "static" / name).parent.mkdir(parents=True)
        (tmp_path / "static" / name).write_text("x")
    async with in_process(make_ranch(page_folder=tmp_path / "static")) as client:
        answer = await client.get("/", headers=BROWSER)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert NOTICE in answer.text
        assert {name: answer.headers[name] for name in GUARDS} == GUARDS
        for path, headers in (
            ("/", {}),
            ("/", {"accept": "application/json"}),
            ("/herd", BROWSER),
            ("/assets/index-x1.js", BROWSER),
        ):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "unknown_url"
        assert (await client.get("/v1/models")).status_code == 200
