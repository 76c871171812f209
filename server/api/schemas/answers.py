"""What endpoints answer, for the OpenAPI description alone: the bodies themselves are encoded by
hand (`api.encode`, `api.chunks`), and tests hold the two together.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Fields beyond those that are named may come with later versions."""

    model_config = ConfigDict(extra="allow")


class ErrorDetail(Answer):
    """What is wrong; ``param`` is the path of the field."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Answer):
    """OpenAI's error envelope."""

    error: ErrorDetail


class TokenDetails(Answer):
    """Prompt tokens that came from the prefix cache, and messages that did not fit."""

    cached_tokens: int
    dropped_messages: int | None = None


class CompletionDetails(Answer):
    """Tokens of an answer that were reasoning."""

    reasoning_tokens: int


class UsageObject(Answer):
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails
    completion_tokens_details: CompletionDetails | None = None


class CalledFunction(Answer):
    """A function's name, and its arguments as JSON text."""

    name: str
    arguments: str


class CalledTool(Answer):
    """One tool call."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Answer):
    """An answer; ``content`` is null where it only calls tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[CalledTool] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class ChatChoice(Answer):
    """One of the answers of a chat completion."""

    index: int
    message: AssistantMessage
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"]
    stop_reason: str | int | None


class ChatCompletionObject(Answer):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageObject


class TextChoice(Answer):
    """One continuation of a prompt."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    stop_reason: str | int | None


class TextCompletionObject(Answer):
    """A whole legacy completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: UsageObject


class RenderedPrompt(Answer):
    """The exact prompt of a conversation."""

    object: Literal["chat.completion.render"]
    model: str
    template: str
    prompt: str
    prompt_token_ids: list[int]
    prompt_tokens: int
    context_length: int
    max_tokens: int
    stop: list[str]
    stop_token_ids: list[int]
    dropped_messages: int


class ModelObject(Answer):
    """A model of the registry. ``base``, and ``parent`` as vLLM calls it, is what an adapter is
    for; ``root`` is where its own files come from.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    base: str | None
    description: str
    aliases: list[str]
    template: str
    max_model_len: int | None
    status: Literal["unloaded", "loading", "ready", "failed"]
    status_detail: str | None


class ModelList(Answer):
    """Every model of the registry."""

    object: Literal["list"]
    data: list[ModelObject]


class Health(Answer):
    """That the server answers, and the state of each model."""

    status: Literal["ok"]
    models: dict[str, str]


class Version(Answer):
    """The server's version."""

    version: str


_ERRORS: Final = {
    400: "The request is wrong; the message names the field and the remedy.",
    401: "The API key is missing or unknown.",
    404: "There is no such model or object.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    429: "The server has too much to do; retry after the header's time.",
    500: "The request failed inside the server or its engine.",
    503: "The model cannot answer now; retry after the header's time.",
}

Responses = dict[int | str, dict[str, Any]]


def errors(*statuses: int) -> Responses:
    """Descriptions of the errors that an endpoint may answer with."""
    return {status: {"model": ErrorBody, "description": _ERRORS[status]} for status in statuses}


GENERATION_ERRORS: Final = errors(400, 401, 404, 413, 415, 429, 500, 503)


def whole(model: type[BaseModel]) -> Responses:
    """The description of a JSON answer."""
    return {200: {"model": model}}


def whole_or_stream(model: type[BaseModel]) -> Responses:
    """The description of an answer that is one object or, when asked, a stream of events."""
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {200: {"model": model, "content": stream}}
