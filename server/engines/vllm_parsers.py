"""vLLM's parsers of tool calls and reasoning behind our `OutputFormat`.

vLLM knows how some forty model families write a tool call, and as many ways to reason. Its parsers
speak in its own server's request and response types, so this is the one place that makes them.

A model that was trained on no way of its own is told of one in its prompt (`prompts.tools`): the
way of the Hermes models (https://github.com/NousResearch/Hermes-Function-Calling), kept to by a
grammar from the first character of a call to its last.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from server.engines import constraints
from server.engines.base import Constraint, Delta, ToolCallDelta
from server.engines.output import OutputParser, ToolUse
from server.engines.tool_grammar import adjusted
from server.errors import EngineDied, GenerationFailed, InvalidRequest

_TAUGHT_PARSER: Final = "hermes"
_CALL_BEGINS: Final = "<tool_call>"
_CALL: Final = re.compile(r"<tool_call>.*?(?:</tool_call>|\Z)", re.DOTALL)


class VllmOutputFormat:
    """See `OutputFormat`.

    Args:
        model: The model's name, for errors and for parsers that care.
        tokenizer: vLLM's tokenizer of the model.
        tool_parser: vLLM's name for how it writes calls; None: as its prompt tells it.
        reasoning_parser: The same for reasoning; None: it does not reason.

    Raises:
        EngineDied: A parser does not exist, or does not fit the tokenizer.
    """

    def __init__(
        self, model: str, tokenizer: Any, tool_parser: str | None, reasoning_parser: str | None
    ) -> None:
        from vllm.parser import ParserManager

        self._tokenizer = tokenizer
        self._taught = tool_parser is None
        try:
            self._parser_class: Any = ParserManager.get_parser(
                tool_parser_name=tool_parser or _TAUGHT_PARSER,
                reasoning_parser_name=reasoning_parser,
                enable_auto_tools=True,
                model_name=model,
                # Whoever was not trained to write a call must be led through its arguments too.
                tool_strict_level="parameter" if self._taught else "auto",
                tokenizer=tokenizer,
            )
        except Exception as error:
            raise EngineDied(_explained(model, tool_parser, reasoning_parser, error)) from error
        self.reasons = reasoning_parser is not None

    def begin(
        self,
        tools: ToolUse | None,
        constraint: Constraint | None,
        *,
        prompt_token_ids: Sequence[int],
        max_tokens: int,
        template_kwargs: Mapping[str, Any],
    ) -> OutputParser:
        """See `OutputFormat.begin`."""
        return _VllmOutputParser(
            self,
            tools,
            constraint,
            list(prompt_token_ids),
            dict(template_kwargs),
            max_tokens if self._taught else None,
        )

    def make(self, tools: Sequence[Any] | None, template_kwargs: Mapping[str, Any]) -> Any:
        """A vLLM ``Parser``; each holds the state of one choice."""
        return self._parser_class(self._tokenizer, tools, chat_template_kwargs=template_kwargs)


@dataclass(slots=True)
class _Answer:
    """What was read of one choice so far."""

    parser: Any
    text: str = ""
    shown: str = ""
    token_ids: list[int] = field(default_factory=list)
    arguments: dict[int, str] = field(default_factory=dict)
    """JSON text of each call."""


class _VllmOutputParser:
    """See `OutputParser`."""

    def __init__(
        self,
        format_: VllmOutputFormat,
        tools: ToolUse | None,
        constraint: Constraint | None,
        prompt: list[int],
        template_kwargs: dict[str, Any],
        bounded_by: int | None,
    ) -> None:
        self._format = format_
        self._prompt = prompt
        self._template_kwargs = template_kwargs
        self._answers: dict[int, _Answer] = {}
        self._taught = bounded_by is not None
        # OpenAI says "stop" when the caller left no other choice than this call.
        self._tells_of_calls = tools is not None and tools.name is None
        param = "tools" if tools is not None or constraint is None else constraint.param
        with _refusals(param, constraint):
            self._request = _vllm_request(tools, constraint, template_kwargs)
            parser = self._make()
            self._request = parser.adjust_request(self._request)
        outputs = self._request.structured_outputs
        self.constraint = adjusted(constraint, outputs, bounded_by, param)
        self.skip_special_tokens: bool = self._request.skip_special_tokens
        self.reasoning_ended: bool | None = (
            bool(parser.is_reasoning_end(prompt)) if format_.reasons else None
        )

    def parse(self, delta: Delta) -> None:
        answer = self._answers.get(delta.index)
        if answer is None:
            answer = self._answers[delta.index] = _Answer(self._make())
        try:
            self._parse(answer, delta)
        except Exception as error:
            raise GenerationFailed(
                "The model's output cannot be read as what its parsers expect "
                f"({type(error).__name__}: {error})."
            ) from error

    def _parse(self, answer: _Answer, delta: Delta) -> None:
        finished = delta.finish_reason is not None
        answer.text += delta.text
        answer.token_ids.extend(delta.token_ids)
        message = answer.parser.parse_delta(
            delta.text, list(delta.token_ids), self._request, self._prompt, finished=finished
        )
        delta.text = (message and message.content) or ""
        delta.reasoning = (message and message.reasoning) or ""
        delta.tool_calls = _pieces(message.tool_calls) if message else ()
        answer.shown += delta.text
        for piece in delta.tool_calls:
            before = answer.arguments.get(piece.index, "")
            answer.arguments[piece.index] = before + piece.arguments
        if finished:
            self._finish(answer, delta)

    def _finish(self, answer: _Answer, delta: Delta) -> None:
        if self._request.tools:
            self._catch_up(answer, delta)
        if delta.finish_reason == "stop":
            delta.tool_calls += _without_arguments(answer.arguments)
            whole = bool(answer.arguments) and all(map(_is_json, answer.arguments.values()))
            if whole and self._tells_of_calls:
                delta.finish_reason = "tool_calls"
        if self._format.reasons:
            delta.reasoning_tokens = answer.parser.count_reasoning_tokens(answer.token_ids)

    def _catch_up(self, answer: _Answer, delta: Delta) -> None:
        """What the parser held back, or forgot because it came in fewer deltas than tokens."""
        _, text, calls = self._make().parse(
            answer.text,
            self._request,
            enable_auto_tools=True,
            model_output_token_ids=answer.token_ids,
        )
        for index, call in enumerate(calls or ()):
            delta.tool_calls += _rest(index, call, answer.arguments)
        if self._taught and answer.arguments:
            # vLLM's parser passes over what is said after a call.
            delta.text += _CALL.sub("", answer.text[answer.text.find(_CALL_BEGINS) :]).strip()
        elif text and text.startswith(answer.shown):
            delta.text += text[len(answer.shown) :]

    def _make(self) -> Any:
        parser = self._format.make(self._request.tools, self._template_kwargs)
        parser.set_prompt_token_ids(self._prompt)
        return parser


@contextlib.contextmanager
def _refusals(param: str, constraint: Constraint | None) -> Iterator[None]:
    """What vLLM refuses within is the caller's mistake.

    Args:
        param: The field that is to blame where vLLM does not blame the constraint.
    """
    # Imported late: see `vllm_values.sampling_params`.
    from vllm.exceptions import VLLMClientError

    try:
        yield
    except ValueError as error:
        raise InvalidRequest(str(error), param=param) from error
    except VLLMClientError as error:
        if constraint is not None and getattr(error, "parameter", None) == "structured_outputs":
            raise constraints.not_compiled(constraint, error) from error
        raise InvalidRequest(str(error.args[0]), param=param) from error


def _vllm_request(
    tools: ToolUse | None, constraint: Constraint | None, template_kwargs: dict[str, Any]
) -> Any:
    """The request that vLLM's server would hand its parsers."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    fields: dict[str, Any] = {"messages": [], "chat_template_kwargs": template_kwargs}
    if constraint is not None:
        if tools is not None and constraint.kind in ("regex", "grammar"):
            raise InvalidRequest(
                f"'{constraint.param}' cannot be combined with 'tools'.", param=constraint.param
            )
        fields["structured_outputs"] = constraints.structured_outputs(constraint)
    if tools is not None and tools.choice != "none":
        named = {"type": "function", "function": {"name": tools.name}}
        fields |= {
            "tools": [_vllm_tool(tool.as_dict(), tool.strict) for tool in tools.tools],
            "tool_choice": named if tools.name else tools.choice,
            "parallel_tool_calls": tools.parallel,
        }
    return ChatCompletionRequest(**fields)


def _vllm_tool(tool: dict[str, Any], strict: bool | None) -> dict[str, Any]:
    return {**tool, "function": {**tool["function"], "strict": strict}}


def _pieces(calls: Sequence[Any]) -> tuple[ToolCallDelta, ...]:
    return tuple(
        ToolCallDelta(
            index=call.index,
            id=None if call.id is None else _call_id(call.id),
            name=call.function.name if call.function else None,
            arguments=(call.function.arguments if call.function else None) or "",
        )
        for call in calls
    )


def _rest(index: int, call: Any, arguments: dict[int, str]) -> tuple[ToolCallDelta, ...]:
    """What is missing of a call, by what a parser of whole answers found."""
    begun = index in arguments
    sent, whole = arguments.get(index, ""), call.arguments or ""
    if begun and (sent or not whole):
        return ()  # the rest may be spelled otherwise
    arguments[index] = whole
    if begun:
        return (ToolCallDelta(index=index, arguments=whole),)
    made = _call_id(call.id or "")
    return (ToolCallDelta(index=index, id=made, name=call.name, arguments=whole),)


def _without_arguments(arguments: dict[int, str]) -> tuple[ToolCallDelta, ...]:
    """``{}`` for calls that came without any; clients expect JSON."""
    empty = [index for index, text in arguments.items() if not text]
    arguments |= dict.fromkeys(empty, "{}")
    return tuple(ToolCallDelta(index=index, arguments="{}") for index in empty)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _call_id(given: str) -> str:
    """OpenAI's form, unless the id means something to the model (Kimi's ``functions.name:0``)."""
    return given if given.startswith("functions.") else f"call_{secrets.token_hex(12)}"


def _explained(
    model: str, tool_parser: str | None, reasoning_parser: str | None, error: Exception
) -> str:
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    known = (
        ("tool_parser", tool_parser, ToolParserManager.list_registered()),
        ("reasoning_parser", reasoning_parser, ReasoningParserManager.list_registered()),
    )
    for setting, name, names in known:
        if name is not None and name not in names:
            return f"'{model}' has {setting}: {name}, which vLLM lacks; it has {', '.join(names)}."
    return f"The parsers of '{model}' do not fit it: {error}"
