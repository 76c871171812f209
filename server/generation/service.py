"""From a call to a stream of deltas: everything between the wire and the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TypeVar

import structlog

from server.engines.base import Delta, Engine, Vector
from server.engines.output import OutputParser
from server.engines.slot import RETRY_AFTER_S, Lease
from server.engines.spec import Adapter
from server.engines.states import SlotRetired
from server.errors import (
    EngineDied,
    InvalidRequest,
    ModelEvicted,
    ModelFailed,
    ModelLoading,
    Overloaded,
    SourceError,
)
from server.generation import assembler, preparing
from server.generation.calls import (
    ChatCall,
    CompletionCall,
    EmbeddingCall,
    PreparedEmbedding,
    PreparedRequest,
    Rendered,
)
from server.generation.embedding import embedding_model, prepared_embedding
from server.generation.herd import Herd
from server.generation.hosted import HostedModel
from server.generation.sampling import check_token_ids
from server.generation.window import fit_text
from server.prompts.conversation import Message, parse_messages
from server.prompts.formatter import Formatter

log = structlog.get_logger(__name__)
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
        model = self._generating(call.model)
        messages = parse_messages(call.messages)
        formatter = await self._formatter(model)
        kwargs, unused = preparing.template_kwargs(formatter, call)
        window = await self._rendered(
            lambda: preparing.fit_chat(model, formatter, messages, call, kwargs),
            large=_are_large(messages),
        )
        return replace(
            preparing.prepared(model, formatter, window, call.sampling, call.scheduling),
            tools=call.tools,
            template_kwargs=kwargs,
            parses=True,
            include_reasoning=call.include_reasoning,
            echo=messages[-1].text if call.echo and messages[-1].role == "assistant" else "",
            unused=unused,
        )

    async def prepare_completion(self, call: CompletionCall) -> PreparedRequest:
        """Resolve and fit a prompt.

        Raises:
            CorralError: As `prepare_chat`.
        """
        model = self._generating(call.model)
        formatter = await self._formatter(model)
        if isinstance(call.prompt, str):
            text = call.prompt
            prompt = await self._rendered(
                lambda: formatter.render_text(text), large=len(text) > _LARGE_TEXT
            )
        else:
            prompt = preparing.prompt_of_ids(formatter, call.prompt, model.vocab_size)
        if not prompt.token_ids:
            raise InvalidRequest("The prompt is empty: send at least one token.", param="prompt")
        said = call.sampling
        scores_only = said.max_tokens == 0
        if scores_only:  # engines generate one token at least
            said = replace(said, max_tokens=1)
        window = fit_text(
            preparing.truncated(prompt, call.scheduling, model.context_length, said.max_tokens),
            context=model.context_length,
            max_tokens=said.max_tokens,
            default_max_tokens=model.entry.sampling.max_tokens or _COMPLETION_MAX_TOKENS,
        )
        if call.echo and said.logprobs is not None:
            said = replace(said, prompt_logprobs=max(said.logprobs, said.prompt_logprobs or 0))
        return replace(
            preparing.prepared(model, formatter, window, said, call.scheduling),
            echo=preparing.echoed(formatter, call, window.prompt) if call.echo else "",
            scores_only=scores_only,
        )

    async def render_chat(self, call: ChatCall) -> Rendered:
        """The whole conversation as a prompt, whether it fits the model's context or not.

        Raises:
            CorralError: As `prepare_chat`, but for `ContextLengthExceeded`.
        """
        model = self.herd.resolve(call.model)
        messages = parse_messages(call.messages)
        formatter = await self._formatter(model)
        kwargs, unused = preparing.template_kwargs(formatter, call)
        prompt = await self._rendered(
            lambda: preparing.render_chat(formatter, messages, call, kwargs),
            large=_are_large(messages),
        )
        return Rendered(model, formatter.tokenizer, prompt.token_ids, unused)

    async def encode(self, name: str, text: str, *, bos: bool) -> Rendered:
        """The tokens of a text; what spells a control token is text like any other.

        Args:
            name: The model's id or alias.
            bos: Whether BOS comes first where the model's tokenizer adds it.

        Raises:
            ModelNotFound: No such model.
            ModelLoading, ModelFailed: The model's files are not there.
        """
        model = self.herd.resolve(name)
        formatter = await self._formatter(model)
        ids = await self._rendered(
            lambda: (
                formatter.render_text(text).token_ids
                if bos
                else formatter.tokenizer.encode_text(text)
            ),
            large=len(text) > _LARGE_TEXT,
        )
        return Rendered(model, formatter.tokenizer, ids)

    async def decode(self, name: str, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens spelled out.

        Raises:
            InvalidRequest: The model lacks one of them.
            ModelNotFound: No such model.
            ModelLoading, ModelFailed: The model's files are not there.
        """
        model = self.herd.resolve(name)
        formatter = await self._formatter(model)
        check_token_ids(ids, model.vocab_size, param="tokens")
        return await self._rendered(
            lambda: formatter.tokenizer.decode(ids, skip_special_tokens=False),
            large=len(ids) > _LARGE_TEXT,
        )

    async def run(
        self, prepared: PreparedRequest, *, whole: bool = False
    ) -> AsyncGenerator[Delta, None]:
        """Yield the deltas of a prepared request; closing it aborts in the engine.

        A request that loses its engine before anything was yielded is begun once more, with the
        engine that takes its place.

        Args:
            whole: Nobody sees a part of the answer: yield nothing before its end, so that all of
                it can be begun once more.

        Raises:
            Overloaded: Too many requests are under way.
            ModelLoading, ModelFailed, ModelEvicted: The engine is not there.
            AdapterFailed: The model's adapter cannot be used.
            GenerationFailed, EngineDied: See `Engine.generate`.
        """
        with self._counted():
            for last in (False, True):
                begun = False
                kept: list[Delta] = []
                try:
                    async with aclosing(self._attempt(prepared)) as deltas:
                        async for delta in deltas:
                            if whole:
                                kept.append(delta)
                            else:
                                begun = True
                                yield delta
                except (EngineDied, ModelEvicted) as error:
                    if begun or last:
                        raise
                    log.info("begun once more", model=prepared.model.entry.id, error=str(error))
                else:
                    for delta in kept:
                        yield delta
                    return

    async def _attempt(self, prepared: PreparedRequest) -> AsyncGenerator[Delta, None]:
        request = prepared.request
        async with self._engine(prepared.model, request.prompt_token_ids) as (engine, adapter):
            prepared = replace(prepared, request=replace(request, adapter=adapter))
            parser = await _begin_parser(prepared, engine)
            async with aclosing(_deltas(prepared, engine, parser)) as deltas:
                async for delta in deltas:
                    yield delta

    async def prepare_embedding(self, call: EmbeddingCall) -> PreparedEmbedding:
        """Resolve, tokenise and fit an input.

        Raises:
            CorralError: As `prepare_chat`.
        """
        model = embedding_model(self.herd, call.model)
        tokenizer = (await self._formatter(model)).tokenizer
        large = isinstance(call.input, str) and len(call.input) > _LARGE_TEXT
        return await self._rendered(lambda: prepared_embedding(model, tokenizer, call), large=large)

    async def embed(self, prepared: PreparedEmbedding) -> Vector:
        """The vector of a prepared input; cancelling aborts in the engine.

        Raises:
            CorralError: As `run`.
        """
        request = prepared.request
        with self._counted():
            for last in (False, True):
                try:
                    async with self._engine(prepared.model, request.prompt_token_ids) as held:
                        engine, adapter = held
                        return await engine.embed(replace(request, adapter=adapter))
                except (EngineDied, ModelEvicted):
                    if last:
                        raise
        raise AssertionError  # the last round returns or raises

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """One request under way, if there is room for another."""
        if self._running >= self._max_running:
            raise Overloaded(
                f"The server is handling {self._running} requests, which is its limit. "
                "Retry after a moment.",
                retry_after=1.0,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    @asynccontextmanager
    async def _engine(
        self, model: HostedModel, prompt: Sequence[int]
    ) -> AsyncGenerator[tuple[Engine, Adapter | None], None]:
        """An engine of the model, with its adapter, where it has one."""
        wait, hosted = self._load_wait_seconds, model.adapter
        # Before the engine is taken, which others may need while files are fetched.
        adapter = None if hosted is None else await hosted.find(wait_seconds=wait)
        with await self._acquire(model, prompt) as engine:
            if hosted is None or adapter is None:
                yield engine, None
                return
            async with hosted.on(engine, adapter, wait_seconds=wait):
                yield engine, adapter

    async def _acquire(self, model: HostedModel, prompt: Sequence[int]) -> Lease:
        """An engine of the model, whatever the registry says of it by now.

        Raises:
            ModelNotFound: It is no longer there.
        """
        while True:
            try:
                return await model.engines.acquire(prompt, wait_seconds=self._load_wait_seconds)
            except SlotRetired:
                model = self.herd.resolve(model.entry.id)

    def _generating(self, name: str) -> HostedModel:
        model = self.herd.resolve(name)
        if model.entry.kind != "generate":
            raise InvalidRequest(
                f"The model '{model.entry.id}' turns text into embeddings and writes none. Use it "
                "with /v1/embeddings.",
                param="model",
            )
        return model

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


def _are_large(messages: Sequence[Message]) -> bool:
    size = sum(len(message.text) for message in messages)
    return size > _LARGE_TEXT or len(messages) > _MANY_MESSAGES


async def _begin_parser(prepared: PreparedRequest, engine: Engine) -> OutputParser | None:
    """What reads tool calls and reasoning out of the answer, where there can be any."""
    entry, tools = prepared.model.entry, prepared.tools
    calls = tools is not None and tools.choice != "none"
    if not prepared.parses or not (calls or entry.reasoning_parser):
        return None
    format_ = await engine.output_format(entry.tool_parser)
    request = prepared.request
    # In a thread: many large tools take a while.
    return await asyncio.to_thread(
        format_.begin,
        tools if calls else None,
        request.sampling.constraint,
        prompt_token_ids=request.prompt_token_ids,
        max_tokens=request.sampling.max_tokens,
        template_kwargs=prepared.template_kwargs,
    )


def _deltas(
    prepared: PreparedRequest, engine: Engine, parser: OutputParser | None
) -> AsyncGenerator[Delta, None]:
    """The engine's deltas through everything that this request needs."""
    request, prompt = prepared.request, prepared.window.prompt
    if parser is not None:
        sampling = replace(
            request.sampling,
            constraint=parser.constraint,
            skip_special_tokens=request.sampling.skip_special_tokens and parser.skip_special_tokens,
        )
        request = replace(request, sampling=sampling, reasoning_ended=parser.reasoning_ended)
    deltas = assembler.polish(engine.generate(request), prompt, request.sampling)
    if parser is not None:
        deltas = assembler.parse(deltas, parser, include_reasoning=prepared.include_reasoning)
    if prepared.scores_only:
        deltas = assembler.only_scores(deltas)
    if prepared.echo:
        deltas = assembler.echo(
            deltas,
            prepared.echo,
            first_token=prepared.tokenizer.decode(prompt.token_ids[:1], skip_special_tokens=False),
            logprobs=request.sampling.logprobs is not None and not prepared.parses,
        )
    return deltas
