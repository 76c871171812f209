"""One chat template, run over texts that cannot spell its control tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NoReturn

import jinja2

from server.errors import InvalidRequest
from server.prompts.conversation import Message
from server.prompts.environment import (
    NONCHARACTERS,
    TEMPLATE_FAILURES,
    TemplateRefusal,
    compile_template,
    template_variables,
)
from server.prompts.guard import PROBE, ControlPattern, Guard, MarkTakenError

_KWARGS: Final = "chat_template_kwargs"
_RESERVED: Final = frozenset(
    {
        *("messages", "add_generation_prompt", "continue_final_message"),
        *("bos_token", "eos_token", "unk_token", "pad_token"),
    }
)


class Renderer:
    """A compiled chat template.

    Args:
        source: The template, in Hugging Face's dialect.
        special: The template's ``bos_token``, ``eos_token`` and the like.
        control: The control-token strings that only the template may spell.

    Raises:
        InvalidRequest: The template is no valid Jinja.
    """

    def __init__(self, source: str, special: Mapping[str, str], control: ControlPattern) -> None:
        self._source = source
        self._special = special
        self._control = control
        try:
            self._template = compile_template(source)
        except jinja2.TemplateSyntaxError as error:
            raise InvalidRequest(
                f"This model's chat template is broken (line {error.lineno}: {error.message}). "
                "Set `template:` of its entry in model_registry.yaml.",
                param="model",
            ) from error

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names that the template reads, the server's own among them."""
        return template_variables(self._source)

    def render(
        self,
        turns: Sequence[Message],
        kwargs: Mapping[str, Any] | None,
        *,
        generate: bool,
        resume: bool,
    ) -> tuple[str, str]:
        """Run the template.

        Args:
            turns: The messages, as the template is to see them.
            kwargs: Further variables, JSON values.
            generate: The template's ``add_generation_prompt``.
            resume: Cut the prompt at the end of the last message's text.

        Returns:
            The prompt with marks in it, and the mark.

        Raises:
            InvalidRequest: The template refuses the conversation or fails on it.
        """
        _check_kwargs(kwargs or {})
        for mark, end in zip(self._marks[::2], self._marks[1::2], strict=False):
            guard = Guard(self._control, mark, end)
            try:
                variables = self._variables(guard, turns, kwargs or {}, resume)
                text = self._template.render({**variables, "add_generation_prompt": generate})
            except MarkTakenError:
                continue
            except TEMPLATE_FAILURES as error:
                _raise_failure(error, guard)
            return (_cut(text, guard, turns[-1].text) if resume else text), mark
        raise InvalidRequest(
            "The messages hold too many different Unicode noncharacters (U+FDD0 to U+FDEF).",
            param="messages",
        )

    @cached_property
    def _marks(self) -> tuple[str, ...]:
        """Characters that can serve as marks: neither the template nor a token has them."""
        used = set(self._source) | self._control.characters
        return tuple(mark for mark in NONCHARACTERS if mark not in used)

    def _variables(
        self, guard: Guard, turns: Sequence[Message], kwargs: Mapping[str, Any], resume: bool
    ) -> dict[str, Any]:
        messages = [_template_message(message, guard) for message in turns]
        if resume:
            messages[-1]["content"] = guard.protect_open(turns[-1].text)
        # Names are the template's, values the user's. `tools` and `documents` are always defined.
        given = {name: guard.protect_all(value) for name, value in kwargs.items()}
        return {"tools": None, "documents": None, **given, **self._special, "messages": messages}


def _template_message(message: Message, guard: Guard) -> dict[str, Any]:
    """What the template sees of a message: plain role, everything else guarded."""
    seen: dict[str, Any] = guard.protect_all(message.extra) if message.extra else {}
    seen["role"] = message.role
    seen["content"] = guard.protect(message.text)
    if message.input is not None:
        seen["input"] = guard.protect(message.input)
    if message.name is not None:
        seen["name"] = guard.protect(message.name)
    return seen


def _check_kwargs(kwargs: Mapping[str, Any]) -> None:
    for name in kwargs:
        if name in _RESERVED:
            raise InvalidRequest(
                f"'{name}' is set by the server and cannot be given to the chat template.",
                param=f"{_KWARGS}.{name}",
            )


def _raise_failure(error: Exception, guard: Guard) -> NoReturn:
    detail = str(error).replace(guard.mark, "").replace(guard.end, "")
    if isinstance(error, TemplateRefusal):
        message = f"The chat template refuses this conversation: {detail}"
    else:
        kind = type(error).__name__
        message = f"The chat template failed on this conversation ({kind}: {detail})."
    raise InvalidRequest(message, param="messages") from error


def _cut(text: str, guard: Guard, answer: str) -> str:
    """The prompt up to the end of the answer that is to be continued."""
    position = text.rfind(guard.end)
    if position < 0:
        raise InvalidRequest(
            "This model's chat template does not write the last assistant message as it is, so "
            "it cannot be continued.",
            param="continue_final_message",
        )
    before, after = text[:position], text[position + 1 :]
    trimmed = not after.startswith(guard.mark + PROBE)
    # Where the template trims an answer, one that is cut short must not end in white space.
    return before.rstrip() if trimmed and answer.strip() else before
