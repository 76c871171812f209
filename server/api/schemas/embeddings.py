"""``POST /v1/embeddings``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from server.api.schemas.common import WITHOUT_EFFECT, TruncatePromptTokens
from server.api.schemas.inputs import INPUTS_SCHEMA, inputs
from server.errors import InvalidRequest, UnsupportedField
from server.generation.calls import EmbeddingCall

# Fields of vLLM's API that would change the vectors and are not obeyed, with what to do instead.
_REMEDIES = {
    "embed_dtype": "Vectors are 32-bit floats: leave it out.",
    "messages": "Send texts as 'input'.",
    "normalize": "Set it in the model's 'engine.extra.pooler_config' in model_registry.yaml.",
    "use_activation": "Set it in the model's 'engine.extra.pooler_config' in model_registry.yaml.",
}


class EmbeddingBody(BaseModel):
    """Texts to be turned into vectors. Unknown fields are kept, to be reported."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[
        list[str | list[int]], PlainValidator(inputs("inputs")), WithJsonSchema(INPUTS_SCHEMA)
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    truncate_prompt_tokens: TruncatePromptTokens | None = None
    truncation_side: Literal["left", "right"] | None = None
    add_special_tokens: bool | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None

    def ignored_fields(self) -> list[str]:
        """Names nobody knows, sorted.

        Raises:
            UnsupportedField: A field that would change the vectors is not obeyed by this server.
        """
        extra: dict[str, Any] = self.model_extra or {}
        for name in sorted(extra.keys() & _REMEDIES.keys()):
            if extra[name] is not None:
                raise UnsupportedField(
                    f"'{name}' is not supported by this server. {_REMEDIES[name]}",
                    param=name,
                    code="unsupported_parameter",
                )
        return sorted(extra.keys() - _REMEDIES.keys() - WITHOUT_EFFECT)

    def calls(self) -> list[EmbeddingCall]:
        """One call an input, in order.

        Raises:
            InvalidRequest: ``truncate_prompt_tokens`` is 0.
        """
        if self.truncate_prompt_tokens == 0:
            raise InvalidRequest(
                "'truncate_prompt_tokens' must be -1 (as many as fit) or at least 1.",
                param="truncate_prompt_tokens",
            )
        return [
            EmbeddingCall(
                model=self.model,
                input=one,
                dimensions=self.dimensions,
                truncate_tokens=self.truncate_prompt_tokens,
                keep_end=self.truncation_side == "left",
                add_special_tokens=self.add_special_tokens is not False,
                priority=self.priority or 0,
            )
            for one in self.input
        ]
