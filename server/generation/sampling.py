"""What a caller, the registry and OpenAI's defaults say of sampling, in this order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from server.engines.base import Constraint, SamplingSettings
from server.errors import InvalidRequest

# Most stop strings that a caller may send (OpenAI: 4; clients such as Continue send more).
MOST_STOPS = 64
# Longest one: the engine holds as much text back while it streams.
LONGEST_STOP = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOverrides:
    """What a caller said of sampling; None leaves the registry's value, else OpenAI's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    logprobs: int | None = None
    ignore_eos: bool | None = None
    prompt_logprobs: int | None = None
    logit_bias: Mapping[int, float] | None = None
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[str, ...] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    constraint: Constraint | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    n: int = 1


def settle(
    said: SamplingOverrides,
    defaults: Mapping[str, Any],
    *,
    max_tokens: int,
    stop: tuple[str, ...],
    stop_token_ids: tuple[int, ...],
    vocab_size: int,
) -> SamplingSettings:
    """The settings of one request.

    Args:
        said: The caller's.
        defaults: The registry's, by field of `SamplingSettings`.
        max_tokens: Decided already, by what fits.
        stop: The format's and the registry's; the caller's are added.
        stop_token_ids: The format's, EOS among them, unless the caller ignores EOS; the caller's
            are added.
        vocab_size: Ids beyond it would read foreign memory in an engine, or end it.

    Raises:
        InvalidRequest: A value of the caller's is wrong.
    """
    _check_stop(said.stop)
    check_token_ids(said.stop_token_ids, vocab_size, param="stop_token_ids")
    check_token_ids(said.logit_bias or (), vocab_size, param="logit_bias")
    check_token_ids(said.allowed_token_ids or (), vocab_size, param="allowed_token_ids")
    if (said.min_tokens or 0) > max_tokens:
        raise InvalidRequest(
            f"'min_tokens' is {said.min_tokens}, but the answer may have {max_tokens} tokens at "
            "most.",
            param="min_tokens",
        )
    ending = () if said.ignore_eos else stop_token_ids
    values = (
        dict(defaults)
        | {
            item.name: value
            for item in fields(said)
            if (value := getattr(said, item.name)) is not None
        }
        | {
            "max_tokens": max_tokens,
            "stop": tuple(dict.fromkeys((*stop, *said.stop))),
            "stop_token_ids": tuple(dict.fromkeys((*ending, *said.stop_token_ids))),
        }
    )
    # vLLM writes "all tokens" as 0; its HTTP API and others also as -1.
    if values.get("top_k") == -1:
        values["top_k"] = 0
    return SamplingSettings(**values)


def check_token_ids(ids: Iterable[int], vocab_size: int, *, param: str) -> None:
    """Refuse ids that the model does not have.

    Raises:
        InvalidRequest: An id is negative or not below ``vocab_size``.
    """
    wrong = next((number for number in ids if not 0 <= number < vocab_size), None)
    if wrong is not None:
        raise InvalidRequest(
            f"Token id {wrong} is outside the model's vocabulary of {vocab_size} tokens.",
            param=param,
        )


def _check_stop(stop: tuple[str, ...]) -> None:
    if len(stop) > MOST_STOPS:
        raise InvalidRequest(f"Send at most {MOST_STOPS} stop strings.", param="stop")
    if "" in stop:
        raise InvalidRequest("A stop string must not be empty.", param="stop")
    if any(len(text) > LONGEST_STOP for text in stop):
        raise InvalidRequest(
            f"A stop string may have at most {LONGEST_STOP} characters.", param="stop"
        )
