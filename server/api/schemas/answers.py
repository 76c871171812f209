"""What endpoints answer, for the OpenAPI description alone: the bodies themselves are encoded by
hand (`api.encode`, `api.chunks`), and tests hold the two together.

Here is what all endpoints share, and what the small ones answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from server.api.schemas.sampling import SamplingFields
from server.engines.states import Status


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


class ModelDefaults(SamplingFields):
    """What the model's entry says of sampling, for requests that do not; the rest is OpenAI's."""


class ModelObject(Answer):
    """A model of the registry. ``base``, and ``parent`` as vLLM calls it, is what an adapter is
    for; ``root`` is where its own files come from. ``size`` is the weights' in bytes.
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
    kind: Literal["generate", "embedding"]
    template: str
    defaults: ModelDefaults
    max_model_len: int | None
    size: int | None
    status: Status
    status_detail: str | None


class ModelList(Answer):
    """Every model of the registry."""

    object: Literal["list"]
    data: list[ModelObject]


class Health(Answer):
    """That the server answers, and the state of each model."""

    status: Literal["ok"]
    models: dict[str, Status]


class Version(Answer):
    """The server's version."""

    version: str


def _header(description: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": schema}


# Every header that a description may refer to.
HEADERS: Final = {
    "x-request-id": _header(
        "The request's id: the caller's own X-Request-Id where it is fit for a header.",
        required=True,
        type="string",
        pattern="^[!-~]{1,128}$",
    ),
    "openai-processing-ms": _header(
        "Milliseconds until the status line was ready.", required=True, type="integer", minimum=0
    ),
    "request-id": _header(
        "The id that Anthropic's SDKs look for; in errors the body has it too.",
        required=True,
        type="string",
        pattern="^req_[0-9a-f]{32}$",
    ),
    "x-corral-ignored-fields": _header(
        "Fields of the request that were not obeyed, with a comma between them.",
        type="string",
        minLength=1,
    ),
    "x-corral-dropped-messages": _header(
        "How many messages of the conversation did not fit.", type="integer", minimum=1
    ),
    "retry-after": _header(
        "Seconds after which another try makes sense.", type="integer", minimum=0
    ),
    "www-authenticate": _header(
        "How to send a key.", required=True, type="string", enum=["Bearer"]
    ),
}
IGNORED: Final = "x-corral-ignored-fields"
DROPPED: Final = "x-corral-dropped-messages"
_ERROR_HEADERS: Final = {401: "www-authenticate", 429: "retry-after", 503: "retry-after"}
_ERRORS: Final = {
    400: "The request is wrong; the message names the field and the remedy.",
    401: "The API key is missing or unknown.",
    403: "The key may not do this, or nobody may from where the request comes.",
    404: "There is no such model or object.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    429: "The server has too much to do; retry after the header's time.",
    500: "The request failed inside the server or its engine.",
    503: "A model or the database cannot answer now; retry after the header's time, if it is sent.",
}

Responses = dict[int | str, dict[str, Any]]


def refer(*headers: str) -> dict[str, Any]:
    """Headers as a description names them: see `HEADERS`."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def errors(*statuses: int, body: type[BaseModel] = ErrorBody) -> Responses:
    """Descriptions of the errors that an endpoint may answer with.

    Args:
        statuses: Besides 401, which any may.
        body: Their envelope.
    """
    return {
        status: {
            "model": body,
            "description": _ERRORS[status],
            "headers": refer(*filter(None, [_ERROR_HEADERS.get(status)])),
        }
        for status in (401, *statuses)
    }


# Of whatever has a body of JSON.
BODY_ERRORS: Final = (400, 413, 415)
GENERATION_ERRORS: Final = (*BODY_ERRORS, 404, 429, 500, 503)
STORED_ERRORS: Final = (404, 503)


def whole(model: Any, *headers: str) -> Responses:
    """The description of a JSON answer.

    Args:
        model: A class of answers, or a union of several.
        headers: Names of `HEADERS` that it may have.
    """
    return {200: {"model": model, "headers": refer(*headers)}}


def whole_or_stream(model: type[BaseModel], stream: Mapping[str, Any], *headers: str) -> Responses:
    """The description of an answer that is one object or, when asked, a stream of events.

    Args:
        stream: See `answers_streams.streamed`.
    """
    return {200: {"model": model, "content": dict(stream), "headers": refer(*headers)}}
