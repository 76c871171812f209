"""The chat page's list of chats, and its presets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.page import CHAT, begin, say
from tests.support.ranch import error

SETTINGS = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.1,
    "max_tokens": 100,
    "presence_penalty": 1.0,
    "frequency_penalty": -1.0,
    "repetition_penalty": 1.1,
    "seed": -7,
    "stop": ["END", "\n"],
    "system": "Be brief.",
}


async def titles(visitor: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await visitor.get("/ui/chats", params=query)
    assert answer.status_code == 200, answer.text
    return [chat["title"] for chat in answer.json()["data"]]


async def test_a_new_chat(visitor: httpx.AsyncClient) -> None:
    chat = (await visitor.post("/ui/chats", json={})).json()
    number, created, updated = (chat.pop(name) for name in ("id", "created", "updated"))
    assert chat == CHAT
    assert number.startswith("chat_")
    assert created == updated > 1_700_000_000
    same = (await visitor.get(f"/ui/chats/{number}")).json()
    assert same == CHAT | {"id": number, "created": created, "updated": created}


async def test_what_a_chat_is_asked_with(visitor: httpx.AsyncClient) -> None:
    body = {"title": " A\ntitle\x00 ", "model": "org/tiny", "settings": SETTINGS}
    chat = (await visitor.post("/ui/chats", json=body)).json()
    assert (chat["title"], chat["model"], chat["settings"]) == ("A title", "org/tiny", SETTINGS)
    settings = {"temperature": 0, "top_p": None}
    path = f"/ui/chats/{chat['id']}"
    changed = (await visitor.patch(path, json={"settings": settings, "model": None})).json()
    assert changed == chat | {"settings": {"temperature": 0.0}, "model": None}
    assert (await visitor.get(path)).json() == changed
    # Nothing said, nothing changed.
    assert (await visitor.patch(path, json={})).json() == changed


async def test_what_is_pinned_comes_first_then_what_was_used_last(
    visitor: httpx.AsyncClient,
) -> None:
    numbers = [await begin(visitor, title=title) for title in "abcd"]
    assert await titles(visitor) == ["d", "c", "b", "a"]
    await visitor.patch(f"/ui/chats/{numbers[1]}", json={"pinned": True})
    await say(visitor, numbers[0], None, "Hi")
    # Another name is no use.
    await visitor.patch(f"/ui/chats/{numbers[2]}", json={"title": "C"})
    assert await titles(visitor) == ["b", "a", "d", "C"]


async def test_pages(visitor: httpx.AsyncClient) -> None:
    numbers = [await begin(visitor, title=str(n)) for n in range(7)]
    for n in (1, 4):
        await visitor.patch(f"/ui/chats/{numbers[n]}", json={"pinned": True})
    found: list[str] = []
    after = ""
    for size in (3, 3, 1):
        page = (await visitor.get("/ui/chats", params={"limit": 3, "after": after})).json()
        assert len(page["data"]) == size
        found += [chat["title"] for chat in page["data"]]
        after = page["next"]
        # What was seen does not come again when it moves.
        await say(visitor, numbers[int(found[-1])], None, "x")
    assert after is None
    assert found == ["4", "1", "6", "5", "3", "2", "0"]


async def test_a_deleted_chat_is_gone(visitor: httpx.AsyncClient) -> None:
    number = await begin(visitor)
    said = await say(visitor, number, None, "Hi")
    path = f"/ui/chats/{number}"
    assert (await visitor.delete(path)).json() == {"id": number, "deleted": True}
    gone = error(f"Chat with id '{number}' not found.")
    for method, where in (
        ("GET", path),
        ("DELETE", path),
        ("GET", f"{path}/messages"),
        ("DELETE", f"{path}/messages/{said}"),
    ):
        answer = await visitor.request(method, where)
        assert (answer.status_code, answer.json()) == (404, gone)
    assert (await visitor.get("/ui/chats")).json() == {"data": [], "next": None}


@pytest.mark.parametrize("number", ["%00", "x" * 81, "a%20b", "..%2f..", "%ff", "chat_1'"])
async def test_ids_that_nothing_can_have(number: str, visitor: httpx.AsyncClient) -> None:
    assert (await visitor.get(f"/ui/chats/{number}")).status_code == 404
    chat = await begin(visitor)
    answer = await visitor.delete(f"/ui/chats/{chat}/messages/{number}")
    assert answer.status_code == 404


async def test_search(visitor: httpx.AsyncClient) -> None:
    first = await begin(visitor, title="Über Öfen")
    await say(visitor, first, None, "ΣΊΣΥΦΟΣ rolls 100% of a stone_")
    second = await begin(visitor, title="天気")
    root = await say(visitor, second, None, "東京の天気はどうですか。")
    await say(visitor, second, root, "ﾊﾛｰ, ＡＢＣ; straße", "assistant")
    for query, found in {
        "öfen": ["Über Öfen"],
        "ÜBER": ["Über Öfen"],
        "σίσυφος": ["Über Öfen"],
        "100%": ["Über Öfen"],
        "00% of": ["Über Öfen"],
        "stone_": ["Über Öfen"],
        "東京": ["天気"],
        "京": ["天気"],
        "天気": ["天気"],
        "ハロー": ["天気"],
        "abc": ["天気"],
        "STRASSE": ["天気"],
        "o": ["Über Öfen"],
        "%": ["Über Öfen"],
        "_": ["Über Öfen"],
        "/": [],
        "\\": [],
        "'": [],
        "大阪": [],
        " 東京 ": ["天気"],
        "\x00": ["天気", "Über Öfen"],
        "": ["天気", "Über Öfen"],
    }.items():
        assert (query, await titles(visitor, q=query)) == (query, found)


async def test_search_finds_what_is_there_now(visitor: httpx.AsyncClient) -> None:
    number = await begin(visitor, title="old name")
    said = await say(visitor, number, None, "old words")
    await visitor.patch(f"/ui/chats/{number}", json={"title": "new name"})
    path = f"/ui/chats/{number}/messages/{said}"
    await visitor.patch(path, json={"content": "new words"})
    await visitor.patch(path, json={"reasoning": "hidden"})
    assert [await titles(visitor, q=q) for q in ("old", "new", "hidden")] == [[], ["new name"], []]
    await visitor.delete(path)
    assert await titles(visitor, q="new words") == []


async def test_pages_of_a_search(visitor: httpx.AsyncClient) -> None:
    for n in range(5):
        await begin(visitor, title=f"{'even' if n % 2 == 0 else 'odd'} {n}")
    first = (await visitor.get("/ui/chats", params={"q": "even", "limit": 2})).json()
    assert [chat["title"] for chat in first["data"]] == ["even 4", "even 2"]
    rest = await visitor.get("/ui/chats", params={"q": "even", "limit": 2, "after": first["next"]})
    assert [chat["title"] for chat in rest.json()["data"]] == ["even 0"]
    assert rest.json()["next"] is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"title": "x" * 201}, "title"),
    ({"title": None}, "title"),
    ({"pinned": 1}, "pinned"),
    ({"model": ""}, "model"),
    ({"model": "x" * 201}, "model"),
    ({"model": "a\nb"}, "model"),
    ({"leaf": None}, "leaf"),
    ({"leaf": "\x00"}, "leaf"),
    ({"leaf": "msg_0"}, "leaf"),
    ({"settings": {"temperature": 3}}, "settings.temperature"),
    ({"settings": {"temperature": "1"}}, "settings.temperature"),
    ({"settings": {"stop": ["x"] * 65}}, "settings.stop"),
    ({"settings": {"stop": "x"}}, "settings.stop"),
    ({"settings": {"stop": ["x" * 257]}}, "settings.stop.0"),
    ({"settings": {"system": "x" * 200_001}}, "settings.system"),
    ({"settings": {"unknown": 1}}, "settings.unknown"),
    ({"id": "chat_1"}, "id"),
    ({"owner": "x"}, "owner"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
async def test_wrong_changes(body: dict[str, Any], param: str, visitor: httpx.AsyncClient) -> None:
    number = await begin(visitor, title="Mine")
    answer = await visitor.patch(f"/ui/chats/{number}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert await titles(visitor) == ["Mine"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"q": "x" * 201}, "q"),
        ({"after": "nothing"}, "after"),
        ({"after": "2:1.0:chat_1"}, "after"),
        ({"after": "1:1.2.3e-1:chat_1"}, "after"),
        ({"after": "1:nan:chat_1"}, "after"),
        ({"after": "1:1.0:\x00"}, "after"),
        ({"after": "1:" + "9" * 190}, "after"),
    ],
)
async def test_wrong_queries(query: dict[str, Any], param: str, visitor: httpx.AsyncClient) -> None:
    answer = await visitor.get("/ui/chats", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_presets(visitor: httpx.AsyncClient) -> None:
    assert (await visitor.get("/ui/presets")).json() == {"data": []}
    presets = [
        {"name": "Precise", "settings": {"temperature": 0.0}},
        {"name": "Wild", "settings": SETTINGS},
    ]
    for said in (presets, presets[1:], [], presets):
        answer = await visitor.put("/ui/presets", json={"data": said})
        assert answer.json() == {"data": said}
        assert (await visitor.get("/ui/presets")).json() == {"data": said}


@pytest.mark.parametrize(
    ("presets", "param"),
    [
        ([{"name": "", "settings": {}}], "data.0.name"),
        ([{"name": "x" * 101, "settings": {}}], "data.0.name"),
        ([{"name": "x", "settings": {"top_p": 0}}], "data.0.settings.top_p"),
        ([{"name": "x"}], "data.0.settings"),
        ([{"name": "x", "settings": {}}] * 2, "data.1.name"),
        ([{"name": str(n), "settings": {}} for n in range(101)], "data"),
        ({}, "data"),
    ],
)
async def test_wrong_presets(presets: Any, param: str, visitor: httpx.AsyncClient) -> None:
    answer = await visitor.put("/ui/presets", json={"data": presets})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
