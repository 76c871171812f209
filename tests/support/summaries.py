"""What an answer says, whole or streamed, in a few plain values; tests/node has the same in Node.

Every object is first checked against the types of OpenAI's package, strictly.

A summary has ``texts``, ``finish``, ``called`` (names of functions), ``arguments``, ``tokens`` (of
logprobs; None without), each a list with an item a choice; ``top``, the most candidates that a
token has beside it, and ``completion_tokens``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from openai import OpenAI
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.support.feature import Feature

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def whole(client: OpenAI, feature: Feature) -> dict[str, Any]:
    """The summary of an answer in one piece."""
    create = _create(client, feature)
    if feature.api == "responses":
        return of_response(create(**feature.request, extra_body=feature.extra))
    answer = _valid(create(**feature.request, extra_body=feature.extra), _TYPES[feature.api][0])
    return _of_choices(answer["choices"], answer["usage"])


def streamed(client: OpenAI, feature: Feature) -> dict[str, Any]:
    """The summary of a stream, put together as a client does."""
    create = _create(client, feature)
    if feature.api == "responses":
        events = list(create(**feature.request, stream=True, extra_body=feature.extra))
        return _of_events(events)
    stream = create(**feature.request, **USAGE, extra_body=feature.extra)
    *chunks, last = [_valid(chunk, _TYPES[feature.api][1]) for chunk in stream]
    assert last["choices"] == []
    assert len({chunk["id"] for chunk in (*chunks, last)}) == 1
    return _of_choices(_joined(chunks, feature.api), last["usage"])


def check(feature: Feature, summary: Mapping[str, Any]) -> None:
    """Hold a summary against what the feature expects of it."""
    expected = dict(feature.expected)
    schema = expected.pop("schema", None)
    if "count" in expected:
        assert len(summary["texts"]) == expected.pop("count")
        assert all(map(any, zip(summary["texts"], summary["called"], strict=True)))
    found = {name: summary[name] for name in expected}
    assert found == expected, f"{found} instead of {expected}"
    if schema is not None:
        arguments = itertools.chain.from_iterable(summary["arguments"])
        written = summary["texts"] if any(summary["texts"]) else list(arguments)
        assert written
        for text in written:
            Draft202012Validator(schema).validate(json.loads(text))


def of_response(answer: Response) -> dict[str, Any]:
    """The summary of a response."""
    body = answer.to_dict()
    Response.model_validate(body, strict=True)
    parts = [part for item in answer.output if item.type == "message" for part in item.content]
    texts = [part for part in parts if part.type == "output_text"]
    calls = [item for item in answer.output if item.type == "function_call"]
    logprobs = [entry for part in texts for entry in part.logprobs or ()]
    assert answer.usage is not None
    why = answer.incomplete_details.reason if answer.incomplete_details else answer.status
    return {
        "texts": [answer.output_text],
        "finish": [why],
        "called": [[call.name for call in calls]],
        "arguments": [[call.arguments for call in calls]],
        "tokens": [[entry.token for entry in logprobs]] if logprobs else None,
        "top": max((len(entry.top_logprobs) for entry in logprobs), default=0),
        "completion_tokens": answer.usage.output_tokens,
    }


def _of_events(events: Sequence[Any]) -> dict[str, Any]:
    """The summary of the last event's response, if the events before say the same."""
    for number, event in enumerate(events):
        _EVENT.validate_python(event.to_dict())
        assert event.sequence_number == number
    summary = of_response(events[-1].response)
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    written = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(texts) == summary["texts"][0]
    assert "".join(written) == "".join(summary["arguments"][0])
    assert events[0].type == "response.created"
    return summary


_TYPES: Mapping[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "chat": (ChatCompletion, ChatCompletionChunk),
    "completions": (Completion, Completion),
}


def _create(client: OpenAI, feature: Feature) -> Any:
    endpoints = {"chat": client.chat.completions, "completions": client.completions}
    return (endpoints.get(feature.api) or client.responses).create


def _valid(one: BaseModel, kind: type[BaseModel]) -> dict[str, Any]:
    body: dict[str, Any] = one.to_dict()  # type: ignore[attr-defined]
    checked = body
    if kind is Completion:
        checked = body | {"choices": [_without_nulls(choice) for choice in body["choices"]]}
    kind.model_validate(checked, strict=True)
    return body


def _without_nulls(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A choice of the legacy endpoint less the nulls that OpenAI sends and its package denies.

    Chunks before the last have no reason to end; an echoed prompt's first token has no score.
    """
    logprobs = choice.get("logprobs")
    if logprobs and logprobs["token_logprobs"] and logprobs["token_logprobs"][0] is None:
        logprobs = {name: values and values[1:] for name, values in logprobs.items()}
    reason = choice["finish_reason"] or "stop"
    return {**choice, "finish_reason": reason, "logprobs": logprobs}


def _joined(chunks: Iterable[Mapping[str, Any]], api: str) -> list[dict[str, Any]]:
    """The choices of a whole answer."""
    choices: dict[int, dict[str, Any]] = {}
    for piece in (choice for chunk in chunks for choice in chunk["choices"]):
        choice = choices.setdefault(
            piece["index"],
            {"text": "", "finish_reason": None, "logprobs": None, "message": {"tool_calls": []}},
        )
        delta = piece["delta"] if api == "chat" else {"content": piece["text"]}
        choice["text"] += delta.get("content") or ""
        choice["finish_reason"] = piece["finish_reason"] or choice["finish_reason"]
        _add_calls(choice["message"]["tool_calls"], delta.get("tool_calls") or ())
        if piece.get("logprobs"):
            _add_logprobs(choice, piece["logprobs"])
    return [choices[index] for index in sorted(choices)]


def _add_calls(calls: list[dict[str, Any]], pieces: Iterable[Mapping[str, Any]]) -> None:
    for piece in pieces:
        if piece["index"] == len(calls):
            assert piece["id"]
            calls.append({"function": {"name": "", "arguments": ""}})
        for name in ("name", "arguments"):
            calls[piece["index"]]["function"][name] += piece["function"].get(name) or ""


def _add_logprobs(choice: dict[str, Any], piece: Mapping[str, Any]) -> None:
    held = choice["logprobs"] = choice["logprobs"] or {}
    for name, values in piece.items():
        held[name] = [*held.get(name, ()), *(values or ())]


def _of_choices(choices: Sequence[Mapping[str, Any]], usage: Mapping[str, Any]) -> dict[str, Any]:
    calls = [(choice.get("message") or {}).get("tool_calls") or () for choice in choices]
    scored = [choice["logprobs"] for choice in choices if choice.get("logprobs")]
    candidates = [
        candidates
        for one in scored
        for candidates in (
            one["top_logprobs"]
            if "top_logprobs" in one
            else [entry["top_logprobs"] for entry in one["content"]]
        )
    ]
    return {
        "texts": [
            choice.get("text") or (choice.get("message") or {}).get("content") or ""
            for choice in choices
        ],
        "finish": [choice["finish_reason"] for choice in choices],
        "called": [[call["function"]["name"] for call in made] for made in calls],
        "arguments": [[call["function"]["arguments"] for call in made] for made in calls],
        "tokens": [_tokens(one) for one in scored] or None,
        "top": max((len(one or ()) for one in candidates), default=0),
        "completion_tokens": usage["completion_tokens"],
    }


def _tokens(logprobs: Mapping[str, Any]) -> list[str]:
    if "tokens" in logprobs:
        return list(logprobs["tokens"])
    return [entry["token"] for entry in logprobs["content"]]
