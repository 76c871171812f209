"""From a call to a request that an engine can take: what a `GenerationService` does without one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from server.engines.base import GenerationRequest
from server.errors import InvalidRequest
from server.generation import sampling
from server.generation.calls import ChatCall, CompletionCall, PreparedRequest, Scheduling
from server.generation.herd import HostedModel
from server.generation.sampling import SamplingOverrides
from server.generation.window import Window, fit
from server.prompts.conversation import Message
from server.prompts.formatter import Formatter, Prompt

# Variables by which chat templates turn reasoning on and off.
_THINKING_SWITCHES: Final = ("enable_thinking", "thinking")


def template_kwargs(
    formatter: Formatter, call: ChatCall
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Variables for the model's template, and the fields of the call that it has none for."""
    kwargs = dict(call.template_kwargs or {})
    effort = call.reasoning_effort
    if effort is None:
        return kwargs, ()
    if formatter.knows("reasoning_effort"):
        return {"reasoning_effort": effort, **kwargs}, ()
    for switch in _THINKING_SWITCHES:
        if formatter.knows(switch):
            return {switch: effort != "none", **kwargs}, ()
    return kwargs, ("reasoning_effort",)


def fit_chat(
    model: HostedModel,
    formatter: Formatter,
    messages: Sequence[Message],
    call: ChatCall,
    template_kwargs: Mapping[str, Any],
) -> Window:
    """The conversation rendered, as much of it as fits.

    Raises:
        InvalidRequest: Nothing is left to continue, as where a base model is told nothing.
        ContextLengthExceeded: It does not fit.
    """
    context, max_tokens = model.context_length, call.sampling.max_tokens

    def render(kept: Sequence[Message], of: ChatCall = call) -> Prompt:
        prompt = render_chat(formatter, kept, of, template_kwargs)
        return truncated(prompt, call.scheduling, context, max_tokens)

    window = fit(
        messages,
        render,
        formatter.estimate_turn_tokens,
        context=context,
        max_tokens=max_tokens,
        default_max_tokens=model.entry.sampling.max_tokens,
        overflow=call.overflow or model.entry.context.overflow,
        without_tools=partial(render, of=replace(call, tools=None)),
    )
    if not window.prompt.token_ids:
        raise InvalidRequest("The conversation is empty: say something.", param="messages")
    return window


def render_chat(
    formatter: Formatter,
    messages: Sequence[Message],
    call: ChatCall,
    template_kwargs: Mapping[str, Any],
) -> Prompt:
    """All of ``messages`` rendered, whether they fit or not."""
    offered = call.tools is not None and call.tools.choice != "none"
    return formatter.render(
        messages,
        add_generation_prompt=call.add_generation_prompt,
        continue_final_message=call.continue_final_message,
        template_kwargs=template_kwargs,
        tools=[tool.as_dict() for tool in call.tools.tools] if offered and call.tools else [],
    )


def truncated(
    prompt: Prompt, scheduling: Scheduling, context: int, max_tokens: int | None
) -> Prompt:
    """The end of the prompt, where the caller wants no more."""
    most = scheduling.truncate_prompt_tokens
    if most is None:
        return prompt
    if most == -1:
        most = max(1, context - (max_tokens or 1))
    return replace(prompt, token_ids=prompt.token_ids[-most:])


def echoed(formatter: Formatter, call: CompletionCall, prompt: Prompt) -> str:
    """The prompt as text, as the caller wrote it if it did."""
    if isinstance(call.prompt, str) and call.scheduling.truncate_prompt_tokens is None:
        return call.prompt
    return formatter.tokenizer.decode(prompt.token_ids)


def prompt_of_ids(formatter: Formatter, ids: Sequence[int], vocab_size: int) -> Prompt:
    """A prompt that came as token ids.

    Raises:
        InvalidRequest: The model lacks one of them.
    """
    sampling.check_token_ids(ids, vocab_size, param="prompt")
    bare = formatter.render_text("")
    return Prompt(
        text="",  # nobody reads it
        token_ids=list(ids),
        stop=bare.stop,
        stop_token_ids=bare.stop_token_ids,
        strip_leading_space=False,
    )


def prepared(
    model: HostedModel,
    formatter: Formatter,
    window: Window,
    said: SamplingOverrides,
    scheduling: Scheduling,
) -> PreparedRequest:
    """What fits, with every setting settled.

    Raises:
        InvalidRequest: A value of the caller's is wrong for this model.
    """
    prompt = window.prompt
    number = uuid.uuid4().hex
    request = GenerationRequest(
        request_id=number,
        priority=scheduling.priority,
        cache_salt=scheduling.cache_salt,
        prompt_token_ids=prompt.token_ids,
        sampling=sampling.settle(
            said,
            model.entry.sampling.model_dump(exclude_none=True),
            max_tokens=window.max_tokens,
            stop=(*prompt.stop, *model.entry.stop),
            stop_token_ids=prompt.stop_token_ids,
            vocab_size=model.vocab_size,
        ),
    )
    return PreparedRequest(
        model=model,
        tokenizer=formatter.tokenizer,
        window=window,
        request=request,
        response_id=scheduling.request_id or number,
    )
