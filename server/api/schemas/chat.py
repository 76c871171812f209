"""``POST /v1/chat/completions``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from server.api.schemas.common import GenerationBody
from server.api.schemas.shapes import DescribedAs
from server.api.schemas.shapes_chat import Conversation, ToolChoice, Tools
from server.api.schemas.tools import tool_use
from server.errors import InvalidRequest
from server.generation.calls import ChatCall


class ChatBody(GenerationBody):
    """A chat completion request.

    Messages stay plain dicts: the formatter's parser knows their shapes and names the faulty part.
    """

    messages: Annotated[list[dict[str, Any]], DescribedAs(Conversation)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], DescribedAs(Tools)] | None = None
    tool_choice: Annotated[Any, DescribedAs(ToolChoice)] = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    include_reasoning: bool | None = None

    def call(self) -> ChatCall:
        """The call this body asks for.

        Raises:
            InvalidRequest: Fields contradict each other.
        """
        self.check_stream_options()
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest(
                "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs"
            )
        continues = bool(self.continue_final_message)
        generation_prompt = self.add_generation_prompt
        return ChatCall(
            model=self.model,
            messages=self.messages,
            sampling=self.overrides(
                max_tokens=self.max_completion_tokens or self.max_tokens,
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            ),
            add_generation_prompt=not continues if generation_prompt is None else generation_prompt,
            continue_final_message=continues,
            template_kwargs=self.chat_template_kwargs,
            tools=tool_use(self.tools, self.tool_choice, self.parallel_tool_calls),
            reasoning_effort=self.reasoning_effort,
            include_reasoning=self.include_reasoning is not False,
            echo=bool(self.echo),
            scheduling=self.scheduling(),
        )
