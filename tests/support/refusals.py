"""Requests that are refused, and the exceptions that both official SDKs make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.e2e.harness import CAPITAL, INSTRUCT
from tests.support.feature import ASKED, NESTED, said

Api = Literal["chat", "completions", "responses", "embeddings"]
_BASE: Mapping[Api, Mapping[str, Any]] = {
    "chat": {"model": INSTRUCT, "messages": [said(CAPITAL)]},
    "completions": {"model": INSTRUCT, "prompt": "The sky is"},
    "responses": {"model": INSTRUCT, "input": CAPITAL},
    "embeddings": {"model": INSTRUCT, "input": "The sky is", "encoding_format": "float"},
}
SEARCH = {"type": "web_search"}
TOO_LONG = "word " * 9000


@dataclass(frozen=True, slots=True)
class Refusal:
    """One request, and what is wrong with it.

    Attributes:
        api: The endpoint.
        param: The field that is to blame.
        fields: What is different from a request that would be answered.
        code: OpenAI's code.
        error: The exception's name, the same in both SDKs.
    """

    api: Api
    param: str | None
    fields: Mapping[str, Any]
    code: str | None = None
    error: str = "BadRequestError"

    @property
    def id(self) -> str:
        """Its name among all."""
        about = ", ".join(self.fields) or "a model that writes"
        return f"{self.api}: {about} ({self.code or self.error} at {self.param})"

    @property
    def request(self) -> dict[str, Any]:
        """All fields."""
        return {**_BASE[self.api], **self.fields}


def _unknown_models() -> list[Refusal]:
    nobody = {"model": "gpt-4o"}
    return [Refusal(api, "model", nobody, "model_not_found", "NotFoundError") for api in _BASE]


REFUSALS = (
    *_unknown_models(),
    Refusal("chat", "messages", {"messages": [said(TOO_LONG)]}, "context_length_exceeded"),
    Refusal("completions", "prompt", {"prompt": TOO_LONG}, "context_length_exceeded"),
    Refusal("responses", "input", {"input": TOO_LONG}, "context_length_exceeded"),
    Refusal("chat", "messages", {"max_tokens": 9000}, "context_length_exceeded"),
    Refusal("chat", "temperature", {"temperature": 3}, "invalid_value"),
    Refusal("chat", "messages", {"messages": []}),
    Refusal("chat", "messages.0.role", {"messages": [{"role": "nobody", "content": "x"}]}),
    Refusal(
        "chat",
        "messages.0.content.0",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    ),
    Refusal("chat", "n", {"n": 1000}, "invalid_value"),
    Refusal("chat", "tools", {"tools": []}),
    Refusal("chat", "tool_choice", {"tool_choice": "required"}),
    Refusal(
        "chat",
        "tool_choice.function.name",
        {
            "messages": ASKED,
            "tools": NESTED,
            "tool_choice": {"type": "function", "function": {"name": "nothing"}},
        },
    ),
    Refusal("chat", "response_format.type", {"response_format": {"type": "xml"}}),
    Refusal("chat", "modalities", {"modalities": ["text", "audio"]}, "unsupported_parameter"),
    Refusal("completions", "logprobs", {"logprobs": 99}, "invalid_value"),
    Refusal("completions", "suffix", {"suffix": "."}, "unsupported_parameter"),
    Refusal("completions", "prompt", {"prompt": [10**7]}),
    Refusal("responses", "tools.0.type", {"tools": [SEARCH]}, "unsupported_parameter"),
    Refusal("responses", "tool_choice", {"tool_choice": "required"}),
    Refusal(
        "responses",
        "text.format.schema",
        {"text": {"format": {"type": "json_schema", "name": "x"}}},
        "missing_required_parameter",
    ),
    Refusal("responses", "include", {"include": ["secrets"]}, "invalid_value"),
    Refusal("responses", None, {"conversation": "conv_0"}, error="NotFoundError"),
    Refusal("embeddings", "model", {}),
)
