"""Any OpenAI endpoint, through OpenAI's own client: answers, likelihoods, and what goes wrong.

Answers need ``/chat/completions`` or ``/completions`` alone. Likelihoods need more:
log-probabilities of the prompt (vLLM's ``prompt_logprobs``, or ``echo`` with ``logprobs``), and for
conversations ``/tokenize``, which says what token ids the server makes of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import openai
from openai import AsyncOpenAI

from evaluation.endpoint_errors import NoSuchPath, translated
from evaluation.errors import CannotScore, EndpointError, RequestRefused

Messages: TypeAlias = Sequence[Mapping[str, Any]]
RETRIES = 4
_FEW = 2  # tokens that no context is too short for


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said.

    Args:
        completion_tokens: As the server counts them; None where it does not say.
        seconds: From the request to the whole answer.
    """

    text: str
    finish_reason: str | None
    completion_tokens: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. A seed is sent always; it matters above temperature 0."""

    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 160

    def as_fields(self) -> dict[str, Any]:
        """The fields of a request."""
        return {
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }


class Endpoint:
    """A server and its models.

    Args:
        base_url: As for OpenAI's client, usually ending in ``/v1``.
        concurrency: Most requests under way at the same time.
        timeout: Seconds for one request.
        retries: Of one request, with growing pauses.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        concurrency: int = 4,
        timeout: float = 600.0,
        retries: int = RETRIES,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._client = AsyncOpenAI(
            base_url=self.base_url,
            api_key=api_key,
            timeout=timeout,
            max_retries=retries,
        )
        self._gate = asyncio.Semaphore(concurrency)
        self._tokenize_url: str | None = None
        self._echoes = False

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    async def models(self) -> list[str]:
        """Ids of its models, in its own order.

        Raises:
            EndpointError: Also for whatever is not an OpenAI endpoint.
        """
        async with self._asking():
            try:
                # The first thing that is asked: a wrong address is told at once.
                listed = await self._client.with_options(max_retries=0).models.list()
                return [model.id for model in listed.data]
            except openai.NotFoundError:
                raise EndpointError(
                    f"{self.base_url} has no list of models. Does its address end in /v1?"
                ) from None
            except (TypeError, AttributeError):
                raise EndpointError(f"{self.base_url} is no OpenAI endpoint") from None

    async def version(self) -> str | None:
        """What the server says of its version, at ``/version`` as vLLM and others do."""
        try:
            body = await self._get(f"{self.base_url.removesuffix('/v1')}/version")
        except (EndpointError, RequestRefused):
            return None
        return str(body["version"]) if "version" in body else None

    async def chat(self, model: str, messages: Messages, sampling: Sampling) -> Answer:
        """Have a model answer a conversation."""
        fields = {"model": model, "messages": list(messages), **sampling.as_fields()}
        body, seconds = await self._post("/chat/completions", fields)
        choice = _only_choice(body)
        text = choice.get("message", {}).get("content") or ""
        return _answer(body, choice, text, seconds)

    async def complete(self, model: str, prompt: str, sampling: Sampling) -> Answer:
        """Have a model continue a text."""
        fields = {"model": model, "prompt": prompt, **sampling.as_fields()}
        body, seconds = await self._post("/completions", fields)
        choice = _only_choice(body)
        return _answer(body, choice, choice.get("text") or "", seconds)

    async def choose(self, model: str, messages: Messages, schema: dict[str, Any]) -> str:
        """Have a model answer in JSON of this schema; the text as it came."""
        fields = {
            "model": model,
            "messages": list(messages),
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "schema": schema, "strict": True},
            },
            **Sampling(max_tokens=64).as_fields(),
        }
        body, _ = await self._post("/chat/completions", fields)
        return _only_choice(body).get("message", {}).get("content") or ""

    async def conversation_ids(
        self, model: str, messages: Messages, *, open_answer: bool = False
    ) -> list[int]:
        """Token ids of a conversation as the server renders it.

        Args:
            messages: If the last one is an assistant's, the ids end where it does.
            open_answer: Its last message is an answer that may go on, so that nothing ends it.

        Raises:
            CannotScore: The server does not say.
        """
        answered = messages[-1]["role"] == "assistant"
        fields = {
            "model": model,
            "messages": list(messages),
            "add_generation_prompt": not answered,
            "continue_final_message": answered and open_answer,
        }
        return await self._tokenize(fields)

    async def logprobs(self, model: str, ids: Sequence[int]) -> list[float]:
        """Log-probability of each token but the first, in nats, given those before it.

        Raises:
            CannotScore: The server does not say.
        """
        try:
            found = await self._score(model, ids)
        except RequestRefused:
            # Refused for what these tokens are, their number say, or because nothing is scored?
            if len(ids) > _FEW:
                await self.logprobs(model, ids[:_FEW])
                raise
            raise CannotScore(_NO_LIKELIHOODS.format(self.base_url)) from None
        if len(found) != len(ids) - 1:
            raise CannotScore(
                f"{self.base_url} scored {len(found) + 1} tokens of the {len(ids)} it was sent"
            )
        return found

    async def text_logprobs(self, model: str, text: str) -> list[tuple[int, float]]:
        """(where it begins in the text, log-probability in nats) of each token but the first.

        Raises:
            CannotScore: The server does not say.
        """
        fields = {"prompt": text, "echo": True, "max_tokens": 1, "logprobs": 1}
        try:
            scores = await self._scores(model, fields)
        except RequestRefused:
            raise CannotScore(_NO_LIKELIHOODS.format(self.base_url)) from None
        offsets, values = scores.get("text_offset"), scores.get("token_logprobs")
        if not offsets or not values:
            raise CannotScore(_NO_LIKELIHOODS.format(self.base_url))
        pairs = zip(offsets, values, strict=True)
        return [(at, value) for at, value in pairs if value is not None and at < len(text)]

    async def _score(self, model: str, ids: Sequence[int]) -> list[float]:
        """By ``prompt_logprobs``, and where there are none by ``echo``."""
        if not self._echoes:
            fields = {"prompt": list(ids), "max_tokens": 1, "prompt_logprobs": 0}
            with contextlib.suppress(RequestRefused):
                positions = (await self._complete(model, fields)).get("prompt_logprobs")
                if positions is not None:
                    pairs = zip(ids[1:], positions[1:], strict=False)
                    return [float(position[str(token)]["logprob"]) for token, position in pairs]
        fields = {"prompt": list(ids), "echo": True, "max_tokens": 1, "logprobs": 1}
        values = (await self._scores(model, fields)).get("token_logprobs") or []
        if not values or values[0] is not None:
            raise CannotScore(_NO_LIKELIHOODS.format(self.base_url))
        self._echoes = True
        return [float(value) for value in values[1 : len(ids)]]

    async def _scores(self, model: str, fields: dict[str, Any]) -> dict[str, Any]:
        choice = await self._complete(model, fields)
        scores: dict[str, Any] = choice.get("logprobs") or {}
        return scores

    async def _complete(self, model: str, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            body, _ = await self._post("/completions", {"model": model, "temperature": 0, **fields})
        except NoSuchPath:
            raise CannotScore(_NO_LIKELIHOODS.format(self.base_url)) from None
        return _only_choice(body)

    async def _tokenize(self, fields: dict[str, Any]) -> list[int]:
        """vLLM has it beside /v1, others below."""
        root = self.base_url.removesuffix("/v1")
        for url in [self._tokenize_url] if self._tokenize_url else [root, self.base_url]:
            try:
                body, _ = await self._post(f"{url}/tokenize", fields)
            except NoSuchPath:
                continue
            self._tokenize_url = url
            # llama.cpp's knows texts alone, and finds none in a conversation.
            if isinstance(tokens := body.get("tokens"), list) and tokens:
                return tokens
        raise CannotScore(
            f"{self.base_url} has no /tokenize that takes conversations, so its prompts are unknown"
        )

    async def _post(self, path: str, fields: dict[str, Any]) -> tuple[dict[str, Any], float]:
        async with self._asking():
            begun = time.monotonic()
            body = await self._client.post(path, body=fields, cast_to=object)
            seconds = time.monotonic() - begun
        if not isinstance(body, dict):
            raise EndpointError(f"{self.base_url} answers {path} with something that is no object")
        return body, seconds

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._asking():
            body = await self._client.get(url, cast_to=object)
        return body if isinstance(body, dict) else {}

    @asynccontextmanager
    async def _asking(self) -> AsyncGenerator[None, None]:
        """A place among the requests under way, and errors in our words."""
        async with self._gate:
            try:
                yield
            except openai.OpenAIError as error:
                raise translated(error, self.base_url) from None
            except json.JSONDecodeError:
                raise EndpointError(f"{self.base_url} does not answer in JSON") from None


_NO_LIKELIHOODS = (
    "{} tells no log-probabilities of prompts: it needs 'prompt_logprobs', or 'echo' with "
    "'logprobs', on /v1/completions"
)


def _only_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise EndpointError("an answer has no choice in it")
    return choices[0]


def _answer(body: Mapping[str, Any], choice: dict[str, Any], text: str, seconds: float) -> Answer:
    usage = body.get("usage") or {}
    return Answer(text, choice.get("finish_reason"), usage.get("completion_tokens"), seconds)
