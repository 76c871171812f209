"""``POST /v1/completions``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from server.api.schemas.common import GenerationBody
from server.generation.calls import CompletionCall

# More are no request but an attack on the memory: each takes a kilobyte or two before it runs.
_MOST_PROMPTS = 2048
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_PROMPT_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        _IDS,
        {"type": "array", "items": _IDS},
    ]
}


def _prompts(value: Any) -> list[str | list[int]]:
    """The prompts, each text or token ids, in order."""
    if isinstance(value, str) or _are_ids(value):
        return [value]
    if isinstance(value, list) and (_all(value, str) or all(map(_are_ids, value))):
        if 0 < len(value) <= _MOST_PROMPTS:
            return value
        raise PydanticCustomError(
            "prompt_count", "must hold from 1 to {most} prompts", {"most": _MOST_PROMPTS}
        )
    raise PydanticCustomError(
        "prompt_type",
        "must be a string, an array of strings, an array of token ids, or an array of such arrays",
    )


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and _all(value, int)


def _all(values: list[Any], kind: type) -> bool:
    """Whether all are of this very type (``true`` is no integer)."""
    return all(type(value) is kind for value in values)


class CompletionBody(GenerationBody):
    """A text completion request: one prompt or several, each text or token ids."""

    prompt: Annotated[
        list[str | list[int]], PlainValidator(_prompts), WithJsonSchema(_PROMPT_SCHEMA)
    ]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def calls(self) -> list[CompletionCall]:
        """One call a prompt, in order."""
        self.check_stream_options()
        overrides = self.overrides(max_tokens=self.max_tokens, logprobs=self.logprobs)
        return [
            CompletionCall(model=self.model, prompt=prompt, sampling=overrides)
            for prompt in self.prompt
        ]
