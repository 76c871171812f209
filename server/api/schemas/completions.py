"""``POST /v1/completions``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from server.api.schemas.common import GenerationBody
from server.api.schemas.inputs import INPUTS_SCHEMA, inputs
from server.api.schemas.shapes import OnlyEmpty
from server.errors import InvalidRequest, UnsupportedField
from server.generation.calls import CompletionCall


class CompletionBody(GenerationBody):
    """A text completion request: one prompt or several, each text or token ids."""

    prompt: Annotated[
        list[str | list[int]], PlainValidator(inputs("prompts")), WithJsonSchema(INPUTS_SCHEMA)
    ]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    # 0 only scores the prompt.
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    suffix: Annotated[str, OnlyEmpty] | None = None

    def calls(self) -> list[CompletionCall]:
        """One call a prompt, in order."""
        self.check_stream_options()
        self._check()
        overrides = self.overrides(max_tokens=self.max_tokens, logprobs=self.logprobs)
        return [
            CompletionCall(
                model=self.model,
                prompt=prompt,
                sampling=overrides,
                echo=bool(self.echo),
                scheduling=self.scheduling(),
            )
            for prompt in self.prompt
        ]

    def _check(self) -> None:
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest(
                "'max_tokens' must be at least 1, or 0 together with 'echo': true.",
                param="max_tokens",
            )
        if self.suffix:
            raise UnsupportedField(
                "'suffix' is not supported: none of the models here was trained to fill a gap. "
                "Leave it out.",
                param="suffix",
                code="unsupported_parameter",
            )
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise UnsupportedField(
                "'best_of' is not supported unless it equals 'n': every choice that is generated "
                "is returned.",
                param="best_of",
                code="unsupported_parameter",
            )
