"""What a model's output is beyond text: reasoning, and calls of tools that it was offered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from server.engines.base import Constraint, Delta

NO_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call.

    Args:
        parameters: JSON schema of its arguments.
        strict: True if arguments must follow the schema to the letter; None: unsaid.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=lambda: NO_PARAMETERS)
    strict: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """As templates want it: OpenAI's form."""
        function: dict[str, Any] = {"name": self.name, "parameters": dict(self.parameters)}
        if self.description is not None:
            function["description"] = self.description
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The tools of a request and how they may be used.

    Args:
        choice: ``none``: no call; ``auto``: the model decides; ``required``: at least one call.
        name: The one tool that must be called; ``choice`` is ``required`` then.
        parallel: Whether an answer may hold several calls.
    """

    tools: tuple[Tool, ...]
    choice: Literal["none", "auto", "required"] = "auto"
    name: str | None = None
    parallel: bool = True


class OutputParser(Protocol):
    """Reads the output of one request, all its choices.

    Attributes:
        constraint: What the output must look like, the request's own constraint included.
        reasoning_ended: See `GenerationRequest`.
        skip_special_tokens: False if the parser needs to see special tokens.
    """

    constraint: Constraint | None
    reasoning_ended: bool | None
    skip_special_tokens: bool

    def parse(self, delta: Delta) -> None:
        """Move what is reasoning or a tool call out of ``delta.text``, in place.

        Raises:
            GenerationFailed: The output makes no sense to the parser.
        """


class OutputFormat(Protocol):
    """How one model writes reasoning and tool calls."""

    @property
    def reasons(self) -> bool:
        """Whether the model writes reasoning."""

    def begin(
        self,
        tools: ToolUse | None,
        constraint: Constraint | None,
        *,
        prompt_token_ids: Sequence[int],
        max_tokens: int,
        template_kwargs: Mapping[str, Any],
    ) -> OutputParser:
        """A parser for one request.

        Args:
            tools: What it may call.
            constraint: What the answer must look like where it calls nothing.
            max_tokens: Calls that must be made are kept short enough to end within.
            template_kwargs: What the chat template was given: some models can be told not to
                reason.

        Raises:
            InvalidRequest: A tool's schema cannot be obeyed.
        """
