"""Streams say byte for byte what whole answers say, and nothing of a stop string.

One request at a time: sums in bfloat16 depend on how many sequences are in a batch, so that two
nearly equal candidates can change places when others are answered too, in vLLM as here.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.e2e.harness import CAPITAL, DIALOGUE, INSTRUCT, PARIS, RAW

pytestmark = pytest.mark.timeout(180)

PROMPTS = (
    "Repeat exactly: 😀😃😄😁",
    "Write three emoji for a happy day. 🎉",
    "你好,请介绍一下你自己。",
    "用中文写一首关于春天的短诗。",
    "日本の首都はどこですか?",
    "「吾輩は猫である」の続きを書いてください。",
    "대한민국의 수도는 어디입니까?",
    "Repeat: 👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 🇫🇷",
    "Translate to Chinese: I like tea 🍵",
    "Translate to Japanese: good morning ☀️",
    "What does 🍎 mean?",
    "Continue: 一二三四五六七",
    "Continue: あいうえお",
    "Continue: 가나다라마바",
    "List these with a number each: 🐶🐱🐭🐹🐰🦊🐻🐼",
    "Écris « où es-tu, garçon ? » en majuscules. 🥐",
    "Mix: Ελληνικά, русский, 中文, عربى, हिन्दी 🌍",
    "𝕎𝕣𝕚𝕥𝕖 𝕚𝕟 𝕥𝕙𝕚𝕤 𝕗𝕠𝕟𝕥 𝟙𝟚𝟛",
    "𠮷野家で𩸽を食べる。続けて。",
    "Thanks! 🙏🙏🏿 谢谢 ありがとう 감사합니다",
)


def pieces(client: OpenAI, model: str, text: str, **fields: Any) -> tuple[list[str], str | None]:
    """The text chunks of a stream at temperature 0, and its finish reason."""
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": text}],
            temperature=0,
            stream=True,
            **fields,
        )
    )
    texts = [chunk.choices[0].delta.content for chunk in chunks]
    return [text for text in texts if text], chunks[-1].choices[0].finish_reason


def whole(client: OpenAI, model: str, text: str, **fields: Any) -> tuple[str, str]:
    (choice,) = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], temperature=0, **fields
    ).choices
    return choice.message.content or "", choice.finish_reason


@pytest.mark.parametrize("text", PROMPTS)
def test_streamed_text_is_the_whole_text(client: OpenAI, text: str) -> None:
    expected, reason = whole(client, INSTRUCT, text, max_tokens=40)
    parts, streamed_reason = pieces(client, INSTRUCT, text, max_tokens=40)
    assert "".join(parts).encode() == expected.encode()
    assert streamed_reason == reason


JAPANESE: dict[str, Any] = {"prompt": "こんにちは、私の名前は", "temperature": 0, "max_tokens": 40}


def continued(client: OpenAI, **fields: Any) -> list[str]:
    stream = client.completions.create(model=RAW, stream=True, **JAPANESE, **fields)
    return [chunk.choices[0].text for chunk in stream]


def test_no_character_of_several_tokens_is_sent_in_pieces(client: OpenAI) -> None:
    # One U+FFFD sent too early would stay in the client's text forever.
    texts = continued(client)
    free = client.completions.create(model=RAW, **JAPANESE)
    assert "".join(texts) == free.choices[0].text
    assert sum(ord(character) > 127 for character in free.choices[0].text) > 10
    assert "\ufffd" not in "".join(texts[:-1])


def test_the_answers_above_are_not_all_ascii(client: OpenAI) -> None:
    texts = [whole(client, INSTRUCT, text, max_tokens=12)[0] for text in PROMPTS[:10]]
    assert sum(not text.isascii() for text in texts) >= 5


STOPS = (
    pytest.param(["Paris"], id="one token"),
    pytest.param(["is Paris"], id="several tokens"),
    pytest.param(["ital of Fr"], id="begins and ends inside tokens"),
    pytest.param(["aris", "France is"], id="the earlier one wins"),
    pytest.param(["nothing like it", "zzz", "s Par"], id="only one of several is met"),
    pytest.param(["is Paris."], id="ends with the answer"),
    pytest.param(["The capital"], id="begins with the answer"),
    pytest.param(["is Paris!", "France was"], id="almost met, never quite"),
    pytest.param(["."], id="one character"),
    pytest.param(["Paris", "France is Paris"], id="met at once, the one that begins earlier wins"),
)


@pytest.mark.parametrize("stop", STOPS)
def test_no_part_of_a_stop_string_reaches_the_client(client: OpenAI, stop: list[str]) -> None:
    ends = [PARIS.find(string) for string in stop if string in PARIS]
    expected = PARIS[: min(ends)] if ends else PARIS
    parts, reason = pieces(client, INSTRUCT, CAPITAL, stop=stop)
    for count in range(len(parts)):
        assert expected.startswith("".join(parts[: count + 1]))
    assert "".join(parts) == expected
    assert reason == "stop"
    assert whole(client, INSTRUCT, CAPITAL, stop=stop) == (expected, "stop")


def test_a_stop_string_amid_characters_of_several_tokens(client: OpenAI) -> None:
    text = client.completions.create(model=RAW, **JAPANESE).choices[0].text
    stop = text[4:7]
    expected = text[: text.index(stop)]
    assert "".join(continued(client, stop=[stop])) == expected
    whole_answer = client.completions.create(model=RAW, stop=[stop], **JAPANESE)
    assert whole_answer.choices[0].text == expected


def test_the_formats_own_stop_strings_stay_hidden(client: OpenAI) -> None:
    parts, reason = pieces(client, DIALOGUE, "Tell me a joke.")
    assert reason == "stop"
    text = "".join(parts)
    assert text
    assert "Human" not in text
    assert "AI:" not in text
    assert not text.startswith(" ")


def test_callers_stops_come_on_top_of_the_formats(client: OpenAI) -> None:
    text, reason = whole(client, DIALOGUE, "Hello, my name is Anna.", stop=["zzz"])
    assert reason == "stop"
    assert "Human:" not in text


def test_the_wire_is_plain_events(http: httpx.Client) -> None:
    body = {"model": INSTRUCT, "stream": True, "temperature": 0}
    messages = [{"role": "user", "content": CAPITAL}]
    with http.stream(
        "POST", "/v1/chat/completions", json=body | {"messages": messages}
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        raw = response.read().decode()
    events = raw.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])
    assert all(json.loads(event[6:])["choices"] for event in events[:-2])
