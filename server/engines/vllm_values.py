"""Our values to vLLM's and back."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

from server.engines.base import (
    Delta,
    FinishReason,
    PositionLogprobs,
    SamplingSettings,
    TokenLogprob,
    Vector,
)
from server.engines.constraints import structured_outputs
from server.errors import GenerationFailed

_FINISH: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
# vLLM counts lower temperatures as greedy (vllm/sampling_params.py, _SAMPLING_EPS).
_GREEDY_BELOW = 1e-5


def sampling_params(sampling: SamplingSettings) -> Any:
    """vLLM's ``SamplingParams`` of ours.

    Raises:
        VLLMClientError: vLLM refuses the values.
    """
    # Imported late: importing vLLM takes seconds, and this module is read by commands that don't.
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    # vLLM refuses several greedy answers, which OpenAI gives; drawing from the one likeliest token
    # is the same.
    several_greedy = sampling.n > 1 and sampling.temperature < _GREEDY_BELOW
    return SamplingParams(
        n=sampling.n,
        temperature=1.0 if several_greedy else sampling.temperature,
        top_p=1.0 if several_greedy else sampling.top_p,
        top_k=1 if several_greedy else sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        seed=sampling.seed,
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        # Of several that end at the same token vLLM takes the first in the list: the longest began
        # first, and cutting at another would leave its beginning in the answer.
        stop=sorted(sampling.stop, key=len, reverse=True) or None,
        stop_token_ids=list(sampling.stop_token_ids) or None,
        ignore_eos=sampling.ignore_eos,
        logprobs=sampling.logprobs,
        prompt_logprobs=sampling.prompt_logprobs,
        logit_bias=dict(sampling.logit_bias) if sampling.logit_bias else None,
        allowed_token_ids=list(sampling.allowed_token_ids) if sampling.allowed_token_ids else None,
        bad_words=list(sampling.bad_words),
        include_stop_str_in_output=sampling.include_stop_str_in_output,
        skip_special_tokens=sampling.skip_special_tokens,
        spaces_between_special_tokens=sampling.spaces_between_special_tokens,
        structured_outputs=(
            None if sampling.constraint is None else structured_outputs(sampling.constraint)
        ),
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,
    )


def pooling_params(dimensions: int | None) -> Any:
    """vLLM's ``PoolingParams`` for one vector a text.

    Raises:
        VLLMClientError: vLLM refuses the values.
    """
    from vllm import PoolingParams

    return PoolingParams(task="embed", dimensions=dimensions)


def vector(output: Any) -> Vector:
    """The vector of a ``PoolingRequestOutput``, shape (dimensions,).

    Raises:
        GenerationFailed: The engine ended this request with an error.
    """
    if output.error is not None:
        raise GenerationFailed("The engine failed on this request.")
    # Models compute in 16 bits; clients are promised 32.
    return array("f", output.outputs.data.float().contiguous().numpy().tobytes())


def delta(completion: Any, cached_tokens: int) -> Delta:
    """Our `Delta` of one of vLLM's ``CompletionOutput`` (in delta mode).

    Raises:
        GenerationFailed: The engine ended this request with an error.
    """
    reason: str | None = completion.finish_reason
    if reason == "error":
        raise GenerationFailed("The engine failed on this request.")
    return Delta(
        index=completion.index,
        text=completion.text,
        token_ids=completion.token_ids,
        finish_reason=None if reason is None else _FINISH.get(reason, "abort"),
        stop_reason=completion.stop_reason,
        logprobs=_logprobs(completion),
        cached_tokens=cached_tokens,
    )


def _logprobs(completion: Any) -> tuple[PositionLogprobs, ...] | None:
    if completion.logprobs is None:
        return None
    return tuple(
        _position(drawn, table)
        for drawn, table in zip(completion.token_ids, completion.logprobs, strict=True)
    )


def prompt_logprobs(tables: Any, token_ids: Any) -> tuple[PositionLogprobs | None, ...] | None:
    """Ours of a ``RequestOutput``'s, which come once; nothing comes before the first token."""
    if not tables:
        return None
    return tuple(
        None if table is None else _position(token_id, table)
        for token_id, table in zip(token_ids, tables, strict=True)
    )


def _position(drawn: int, table: Mapping[int, Any]) -> PositionLogprobs:
    ranked = sorted(table.items(), key=lambda item: item[1].rank)
    tokens = {
        token_id: TokenLogprob(token_id, entry.decoded_token or "", entry.logprob, entry.rank)
        for token_id, entry in ranked
    }
    return PositionLogprobs(drawn=tokens[drawn], top=tuple(tokens.values()))
