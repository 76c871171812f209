"""``POST /v1/completions``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

from pydantic import Field

from server.api.schemas.common import GenerationBody
from server.errors import InvalidRequest
from server.generation.service import CompletionCall

TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class CompletionBody(GenerationBody):
    """A text completion request: one prompt or several, each text or token ids."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def calls(self) -> list[CompletionCall]:
        """One call a prompt, in order.

        Raises:
            InvalidRequest: There is no prompt.
        """
        self.check_stream_options()
        overrides = self.overrides(max_tokens=self.max_tokens, logprobs=self.logprobs)
        return [
            CompletionCall(model=self.model, prompt=prompt, sampling=overrides)
            for prompt in self._prompts()
        ]

    def _prompts(self) -> Sequence[str | Sequence[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if not self.prompt:
            raise InvalidRequest("'prompt' is an empty list: send at least one.", param="prompt")
        if isinstance(self.prompt[0], int):
            return [cast("list[int]", self.prompt)]
        return cast("list[str | list[int]]", self.prompt)
