"""What schemathesis cannot know of this server from its description: see `schemathesis.toml`.

Reads OPENAI_BASE_URL and OPENAI_API_KEY, to look for models and to store what is then asked for.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from functools import cache
from typing import Any, Final

import requests
import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

# Answers are kept short: so many tokens at most, and so many answers to one prompt.
_MOST: Final = {
    "max_tokens": 4,
    "max_completion_tokens": 4,
    "max_output_tokens": 4,
    "min_tokens": 4,
    "n": 2,
}
# What limits an answer where the caller may leave the limit out.
_LIMITS: Final = {
    "/v1/chat/completions": "max_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
}
# Fields that mean nothing without another, and that exclude another.
_NEEDS: Final = {
    "stream_options": "stream",
    "tool_choice": "tools",
    "top_logprobs": "logprobs",
}
_EXCLUDE: Final = {
    "structured_outputs": "response_format",
    "previous_response_id": "conversation",
    "prompt_logprobs": "stream",
}
# Fields with ids, and how those begin that the server has given.
_IDS: Final = {"previous_response_id": "resp_", "conversation": "conv_"}
# What differs from run to run.
_MADE_ID: Final = re.compile("[0-9a-f]{32}")
# Why a request is refused that is right in every field: JSON Schema has no words for it, or so many
# that nobody could read them.
_BEYOND_A_SCHEMA: Final = re.compile(
    # Fields need or exclude each other.
    r"is only allowed when|needs 'tools' to choose from|exclude each other|'top_logprobs' needs"
    r"|must hold exactly one of|or 0 together with 'echo'|unless it equals 'n'|must be stored"
    r"|not available when 'stream'|'min_tokens' is .*, but the answer may have"
    r"|Missing required parameter: 'input'|holds nothing that a model could answer"
    # One part of the request names another.
    r"|Two tools have the name|There is no (function|tool) .* among 'tools'"
    r"|No tool call found for function call output|The last message calls tools"
    # The caller wants no field that means nothing.
    r"|leave strict mode"
    # The model, its tokens and its template.
    r"|outside the model's vocabulary|(prompt|conversation) is empty|not be or hold an empty text"
    r"|'continue_final_message' needs a last message|The chat template failed"
    r"|maximum context length|makes no embeddings|turns text into embeddings|Matryoshka"
    # What is stored, and what is not.
    r"|There is no item|already has an item|Duplicate item found|Item with id .* not found"
    r"|Previous response with id|Only responses with 'background'|Cannot cancel a response that is"
    # A JSON schema or grammar of the caller's that is none, or that nothing fits.
    r"|is no valid JSON schema|is not valid JSON|cannot be compiled|cannot be kept to by this",
    re.DOTALL,
)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Name what there is in most cases, keep answers short, let good requests fit together."""
    good = case.meta is not None and case.meta.generation.mode.is_positive
    said = repr((case.path_parameters, case.query, case.body))
    draw = zlib.crc32(_MADE_ID.sub("", said).encode())
    if good and draw % 8 != 1:
        case.query.pop("strict", None)
        if case.meta.phase.name.value != "stateful":
            case.path_parameters.update(_stored(case.path, background=draw % 2 == 0))
    if isinstance(case.body, dict):
        case.body = _with_integers(case.body)
        _limit(case.path, case.body)
        if draw % 8:
            _name_model(case.path, case.body, draw)
        if good and draw % 8 != 1:
            _settle(case.path, case.body)


def _name_model(path: str, body: dict[str, Any], draw: int) -> None:
    models = _models()["embedding" if path == "/v1/embeddings" else "generate"]
    if isinstance(body.get("model"), str) and body["model"] and models:
        body["model"] = models[draw % len(models)]


def _limit(path: str, body: dict[str, Any]) -> None:
    for name, most in _MOST.items():
        if type(body.get(name)) is int and most < body[name] < 2**31:
            body[name] = most
    if path in _LIMITS and body.get(_LIMITS[path]) is None:
        body[_LIMITS[path]] = 4


def _settle(path: str, body: dict[str, Any]) -> None:
    """Change what fields say of each other, and of a model's tokens, so that it can be done."""
    for name in body.keys() & {"stop_token_ids", "allowed_token_ids", "tokens", "prompt", "input"}:
        body[name] = _few_ids(body[name])
    if body.get("logit_bias"):
        body["logit_bias"] = {str(abs(int(key)) % 200): 1 for key in body["logit_bias"]}
    if path == "/v1/responses":
        _settle_response(body)
    for name in [name for name in body if _is_alone(name, body)]:
        del body[name]
    if body.keys() & {"response_format", "structured_outputs", "tools"}:
        body.pop("allowed_token_ids", None)  # of which no such answer could be made
    if body.get("structured_outputs"):
        body["structured_outputs"] = {"choice": ["yes", "no"]}
    if "best_of" in body:
        body["best_of"] = body.get("n") or 1
    if body.get("max_tokens") == 0:
        body["max_tokens"] = 1


def _is_alone(name: str, body: dict[str, Any]) -> bool:
    """Whether a field cannot stay: it needs another, excludes one, or names what is not there."""
    if name in _NEEDS:
        return not body.get(_NEEDS[name])
    if name in _IDS and not str(body[name]).startswith(_IDS[name]):
        return True
    if name in ("min_tokens", "continue_final_message", "dimensions"):
        return True
    return bool(body.get(_EXCLUDE.get(name)))


def _settle_response(body: dict[str, Any]) -> None:
    if body.pop("top_logprobs", None):
        body["include"] = ["message.output_text.logprobs"]
    if body.get("background"):
        body.pop("store", None)
    items = body.get("input")
    if not items or (isinstance(items, list) and not all(map(_stands_alone, items))):
        body["input"] = "x"


def _stands_alone(item: dict[str, Any]) -> bool:
    """Whether an item refers to no other."""
    return "role" in item or item.get("type") in ("function_call", "reasoning")


def _few_ids(value: Any) -> Any:
    """Token ids that every model has, and no empty text."""
    if isinstance(value, list):
        return [_few_ids(inner) for inner in value]
    if type(value) is int:
        return value % 200
    return value or "x" if isinstance(value, str) else value


def _with_integers(value: Any) -> Any:
    """Whole numbers as integers: JSON Schema takes 1.0 for one, OpenAI's API and ours do not."""
    if isinstance(value, dict):
        return {key: _with_integers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_integers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@cache
def _models() -> dict[str, list[str]]:
    """Ids of models by their kind."""
    found: dict[str, list[str]] = {"generate": [], "embedding": []}
    for model in _ask("GET", "/models")["data"]:
        found[model["kind"]].append(model["id"])
    return found


def _stored(path: str, *, background: bool) -> dict[str, str]:
    """Path parameters that name something that was just stored; none where there are no such."""
    if "{response_id}" in path:
        model = _models()["generate"][0]
        asked = {"model": model, "input": "x", "max_output_tokens": 4, "background": background}
        if path.endswith("/cancel"):  # there must be something left to cancel
            asked |= {"max_output_tokens": 200, "background": True}
        return {"response_id": _ask("POST", "/responses", asked)["id"]}
    if "{conversation_id}" not in path:
        return {}
    items = [{"role": "user", "content": "x"}]
    number = _ask("POST", "/conversations", {"items": items})["id"]
    if "{item_id}" not in path:
        return {"conversation_id": number}
    item = _ask("GET", f"/conversations/{number}/items")["data"][0]["id"]
    return {"conversation_id": number, "item_id": item}


def _ask(method: str, path: str, body: Any = None) -> Any:
    key = os.environ.get("OPENAI_API_KEY", "none")
    answer = requests.request(
        method,
        os.environ["OPENAI_BASE_URL"] + path,
        json=body,
        headers={"authorization": f"Bearer {key}"},
        timeout=600,
    )
    answer.raise_for_status()
    return answer.json()


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Whether a failure is one: not where a good request is refused for what no schema can say."""
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    return _BEYOND_A_SCHEMA.search(response.json()["error"]["message"]) is None


@schemathesis.check
def error_envelope(ctx: Any, response: Any, case: Any) -> None:
    """Every answer has an id and every error its envelope, also where no operation describes it."""
    assert "x-request-id" in response.headers, "the answer has no x-request-id"
    if response.status_code >= 400:
        error = json.loads(response.content)["error"]
        assert error["message"], "the error has no message"
        assert error["type"], "the error has no type"


@schemathesis.check
def no_hidden_server_error(ctx: Any, response: Any, case: Any) -> None:
    """An error of the server's is none less for coming in a stream or as a response's status."""
    for sign in (b'"type":"server_error"', b'"code":"server_error"', b'"type":"api_error"'):
        assert sign not in response.content, f"the answer holds {sign.decode()}"
