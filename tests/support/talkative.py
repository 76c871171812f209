"""A script for engines whose answers hold all that an answer can hold."""

from __future__ import annotations

from collections.abc import Iterator

from server.engines.base import Delta, GenerationRequest, PositionLogprobs, TokenLogprob
from server.engines.scripted import Step

_WORD = TokenLogprob(70, "e", -0.25, 1)
_OTHER = TokenLogprob(71, "f", -1.5, 2)
_SCORES = PositionLogprobs(_WORD, (_WORD, _OTHER))


def everything(request: GenerationRequest) -> Iterator[Step]:
    """Reasoning, text and a tool call (as `SpelledFormat` writes them), scored, of every choice.

    An answer that may be long takes a while, so that it can be cancelled.
    """
    sampling = request.sampling
    if sampling.max_tokens > 100:
        yield 0.5
    scored = None if sampling.logprobs is None else (_SCORES,)
    prompt = None
    if sampling.prompt_logprobs is not None:
        prompt = (None, *[_SCORES] * (len(request.prompt_token_ids) - 1))
    for index in range(sampling.n):
        yield Delta(index, "?hm", [70], logprobs=scored, prompt_logprobs=prompt, cached_tokens=1)
        yield Delta(index, "Hello", [70], logprobs=scored, cached_tokens=1)
        yield Delta(
            index, '!weather {"city": "Oslo"}', [70], "stop", logprobs=scored, cached_tokens=1
        )
