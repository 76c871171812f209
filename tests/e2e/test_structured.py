"""Answers of a prescribed form, and scores, of a real model."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openai import BadRequestError, OpenAI

from tests.e2e.harness import INSTRUCT, RAW

MESSAGES: Any = [{"role": "user", "content": "Tell me about Paris, in JSON."}]
CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "size": {"enum": ["small", "large"]},
        "rivers": {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 2},
        "founded": {"type": "integer", "minimum": 0, "maximum": 2000, "multipleOf": 10},
    },
    "required": ["name", "size", "rivers", "founded"],
}
SCHEMAS: dict[str, Any] = {
    "object": CITY,
    "list": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "maxItems": 3},
    "pattern": {"type": "string", "pattern": "^[A-Z][a-z]{2,8}$"},
    "choice": {"oneOf": [{"const": "yes"}, {"const": "no"}]},
    "both": {"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 9}]},
}


def ask(client: OpenAI, **fields: Any) -> str:
    answer = client.chat.completions.create(
        model=INSTRUCT, messages=MESSAGES, max_tokens=200, temperature=0, **fields
    )
    assert answer.choices[0].finish_reason == "stop"
    return answer.choices[0].message.content or ""


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas(name: str, client: OpenAI) -> None:
    schema = {"name": name, "schema": SCHEMAS[name], "strict": True}
    wanted: Any = {"type": "json_schema", "json_schema": schema}
    text = ask(client, response_format=wanted)
    Draft202012Validator(SCHEMAS[name]).validate(json.loads(text))
    stream = client.chat.completions.create(
        model=INSTRUCT,
        messages=MESSAGES,
        max_tokens=200,
        temperature=0,
        response_format=wanted,
        stream=True,
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


def outputs(**constraint: Any) -> dict[str, Any]:
    return {"extra_body": {"structured_outputs": constraint}}


def test_other_forms(client: OpenAI) -> None:
    assert re.fullmatch("[a-z]{3,9}!", ask(client, **outputs(regex="[a-z]{3,9}!")))
    assert ask(client, **outputs(choice=["Seine", "Loire"])) in ("Seine", "Loire")
    assert ask(client, **outputs(grammar='root ::= "a" ("b" | "c")')) in ("ab", "ac")
    assert ask(client, **outputs(grammar='start: "a" ("b" | "c")')) in ("ab", "ac")


@pytest.mark.parametrize(
    "constraint",
    [
        {"regex": "((("},
        {"regex": "(.?){3}(?=a)"},
        {"regex": r"[^\s\S]"},
        {"grammar": "root ::= root"},
        {"grammar": "nonsense"},
        {"json": {"$ref": "#/nope"}},
        {"json": {"$ref": "#"}},
        {"json": {"type": "array", "uniqueItems": True}},
        {"json": {"type": "string", "minLength": 9, "maxLength": 2}},
        {"structural_tag": {"type": "structural_tag", "format": 5}},
    ],
)
def test_what_cannot_be_kept_to(constraint: dict[str, Any], client: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(client, **outputs(**constraint))
    assert caught.value.param == f"structured_outputs.{next(iter(constraint))}"


HARD = [
    {"regex": "(.?){100}"},
    {"regex": "([a-z]{0,50} ?){0,200}"},
    {"regex": ".*" * 1000},
    {"json": {"type": "string", "pattern": "^(.?){100}$"}},
    {"json": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(900)}}},
    {"grammar": "root ::= " + "[a-z]* " * 3000},
]


def test_hard_grammars_do_not_hold_up_other_streams(http: httpx.Client, client: OpenAI) -> None:
    stop = threading.Event()
    statuses: list[int] = []

    def attack() -> None:
        for constraint in itertools.takewhile(lambda _: not stop.is_set(), HARD):
            body = {"model": INSTRUCT, "messages": MESSAGES, "max_tokens": 10}
            answer = http.post(
                "/v1/chat/completions", json=body | {"structured_outputs": constraint}
            )
            statuses.append(answer.status_code)

    thread = threading.Thread(target=attack)
    thread.start()
    times = []
    while thread.is_alive():
        stream = client.completions.create(
            model=RAW,
            prompt="One, two,",
            max_tokens=100,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        times += [time.monotonic() for _ in stream]
    stop.set()
    thread.join()
    assert set(statuses) <= {200, 400}
    assert len(statuses) == len(HARD)
    assert max(after - before for before, after in itertools.pairwise(times)) < 5


@pytest.mark.parametrize(
    "fields",
    [
        {"ignore_eos": True},
        {"min_tokens": 15},
        {"bad_words": ["Seine", "Loire"]},
        {"allowed_token_ids": [10, 11, 12]},
        {"stop": ["e"]},
    ],
)
def test_constraints_beside_other_limits(fields: dict[str, Any], http: httpx.Client) -> None:
    for constraint in ({"choice": ["Seine", "Loire"]}, {"regex": "(Seine|Loire)"}):
        body = {"model": INSTRUCT, "messages": MESSAGES, "max_tokens": 20} | fields
        answer = http.post("/v1/chat/completions", json=body | {"structured_outputs": constraint})
        assert answer.status_code in (200, 400)
        if answer.status_code == 200:
            assert answer.json()["choices"][0]["finish_reason"] in ("stop", "length")
    assert http.get("/health").json()["models"][INSTRUCT] == "ready"


def test_scores_as_lm_eval_asks(client: OpenAI) -> None:
    prompt = "The capital of France is Paris"
    text = client.completions.create(
        model=RAW, prompt=prompt, echo=True, max_tokens=1, logprobs=1, temperature=0
    ).choices[0]
    assert text.logprobs is not None
    assert text.text.startswith(prompt)
    scores, tokens = text.logprobs.token_logprobs or [], text.logprobs.tokens or []
    assert "".join(tokens) == text.text
    assert scores[0] is None
    assert all(score <= 0 for score in scores[1:])
    # " Paris" is what comes next.
    assert scores[tokens.index(" Paris")] > -3
    ids: list[int] = text.model_dump().get("prompt_token_ids") or [504, 3575, 282]
    both = client.completions.create(
        model=RAW, prompt=[ids, ids], echo=True, max_tokens=0, logprobs=1
    ).choices
    assert [len(one.logprobs.tokens or []) for one in both if one.logprobs] == [len(ids)] * 2
    assert both[0].logprobs == both[1].logprobs
