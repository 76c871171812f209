"""From a call to a stream of deltas: everything between the wire and the engine."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TypeVar

from server.engines.base import Delta, GenerationRequest
from server.engines.pool import RETRY_AFTER_S
from server.errors import InvalidRequest, ModelFailed, ModelLoading, Overloaded, SourceError
from server.generation import sampling
from server.generation.assembler import polish
from server.generation.calls import ChatCall, CompletionCall, PreparedRequest
from server.generation.herd import Herd, HostedModel
from server.generation.sampling import SamplingOverrides
from server.generation.window import Window, fit, fit_text
from server.prompts.conversation import Message, parse_messages
from server.prompts.formatter import Formatter, Prompt

T = TypeVar("T")

# OpenAI's default of the legacy completions endpoint.
_COMPLETION_MAX_TOKENS = 16
# Text above this many characters is rendered in a thread: tokenising it would stall every stream.
_LARGE_TEXT = 20_000
# So many messages take as long as a large text, however little they say.
_MANY_MESSAGES = 200
# Tokenisers let go of the GIL; more threads than this would take cores from the engines.
_RENDERERS = 2


class GenerationService:
    """Runs requests on a herd.

    Args:
        herd: The models.
        load_wait_seconds: Longest a request waits for its model to load.
        max_running: Requests that may be under way at once; more are refused.
    """

    def __init__(self, herd: Herd, *, load_wait_seconds: float, max_running: int) -> None:
        self.herd = herd
        self._load_wait_seconds = load_wait_seconds
        self._max_running = max_running
        self._running = 0
        # Threads of their own: the default ones may all be busy with something slower.
        self._renderers = ThreadPoolExecutor(_RENDERERS, thread_name_prefix="render")

    async def prepare_chat(self, call: ChatCall) -> PreparedRequest:
        """Resolve, render and fit a conversation.

        Raises:
            ModelNotFound: No such model.
            InvalidRequest: The messages or settings are wrong.
            ContextLengthExceeded: The conversation does not fit.
            ModelLoading, ModelFailed: The model's files are not there.
        """
        model = self.herd.resolve(call.model)
        messages = parse_messages(call.messages)
        formatter = await self._formatter(model)
        size = sum(len(message.text) for message in messages)
        window = await self._rendered(
            lambda: _fit_chat(model, formatter, messages, call),
            large=size > _LARGE_TEXT or len(messages) > _MANY_MESSAGES,
        )
        return _prepared(model, formatter, window, call.sampling)

    async def prepare_completion(self, call: CompletionCall) -> PreparedRequest:
        """Resolve and fit a prompt.

        Raises:
            CorralError: As `prepare_chat`.
        """
        model = self.herd.resolve(call.model)
        formatter = await self._formatter(model)
        if isinstance(call.prompt, str):
            text = call.prompt
            prompt = await self._rendered(
                lambda: formatter.render_text(text), large=len(text) > _LARGE_TEXT
            )
        else:
            prompt = _prompt_of_ids(formatter, call.prompt, model.vocab_size)
        if not prompt.token_ids:
            raise InvalidRequest("The prompt is empty: send at least one token.", param="prompt")
        window = fit_text(
            prompt,
            context=model.context_length,
            max_tokens=call.sampling.max_tokens,
            default_max_tokens=model.entry.sampling.max_tokens or _COMPLETION_MAX_TOKENS,
        )
        return _prepared(model, formatter, window, call.sampling)

    async def run(self, prepared: PreparedRequest) -> AsyncGenerator[Delta, None]:
        """Yield the deltas of a prepared request; closing it aborts in the engine.

        Raises:
            Overloaded: Too many requests are under way.
            ModelLoading, ModelFailed: The engine is not there.
            GenerationFailed, EngineDied: See `Engine.generate`.
        """
        if self._running >= self._max_running:
            raise Overloaded(
                f"The server is handling {self._running} requests, which is its limit. "
                "Retry after a moment.",
                retry_after=1.0,
            )
        self._running += 1
        try:
            slot = prepared.model.slot
            async with slot.lease(wait_seconds=self._load_wait_seconds) as engine:
                deltas = polish(
                    engine.generate(prepared.request),
                    prepared.window.prompt,
                    prepared.request.sampling,
                )
                async with aclosing(deltas):
                    async for delta in deltas:
                        yield delta
        finally:
            self._running -= 1

    async def _rendered(self, render: Callable[[], T], *, large: bool) -> T:
        if not large:
            return render()
        return await asyncio.get_running_loop().run_in_executor(self._renderers, render)

    async def _formatter(self, model: HostedModel) -> Formatter:
        try:
            async with asyncio.timeout(self._load_wait_seconds):
                return await model.formatter()
        except TimeoutError:
            raise ModelLoading(
                model.entry.id,
                f"The files of the model '{model.entry.id}' are still being fetched. Try again "
                "shortly.",
                retry_after=5.0,
            ) from None
        except SourceError as error:
            raise ModelFailed(model.entry.id, str(error), retry_after=RETRY_AFTER_S) from error


def _fit_chat(
    model: HostedModel, formatter: Formatter, messages: Sequence[Message], call: ChatCall
) -> Window:
    def render(kept: Sequence[Message]) -> Prompt:
        return formatter.render(
            kept,
            add_generation_prompt=call.add_generation_prompt,
            continue_final_message=call.continue_final_message,
            template_kwargs=call.template_kwargs,
        )

    return fit(
        messages,
        render,
        formatter.estimate_turn_tokens,
        context=model.context_length,
        max_tokens=call.sampling.max_tokens,
        default_max_tokens=model.entry.sampling.max_tokens,
        overflow=model.entry.context.overflow,
    )


def _prompt_of_ids(formatter: Formatter, ids: Sequence[int], vocab_size: int) -> Prompt:
    sampling.check_token_ids(ids, vocab_size, param="prompt")
    bare = formatter.render_text("")
    return Prompt(
        text="",  # nobody reads it
        token_ids=list(ids),
        stop=bare.stop,
        stop_token_ids=bare.stop_token_ids,
        strip_leading_space=False,
    )


def _prepared(
    model: HostedModel, formatter: Formatter, window: Window, said: SamplingOverrides
) -> PreparedRequest:
    prompt = window.prompt
    request = GenerationRequest(
        request_id=uuid.uuid4().hex,
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
        model=model, tokenizer=formatter.tokenizer, window=window, request=request
    )
