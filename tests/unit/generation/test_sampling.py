from __future__ import annotations

from typing import Any

import pytest

from server.engines.base import SamplingSettings
from server.errors import InvalidRequest
from server.generation.sampling import SamplingOverrides, check_token_ids, settle


def settled(defaults: dict[str, Any] | None = None, **said: Any) -> SamplingSettings:
    return settle(
        SamplingOverrides(**said),
        defaults or {},
        max_tokens=10,
        stop=("A", "B"),
        stop_token_ids=(2,),
        vocab_size=100,
    )


def test_the_caller_wins_over_the_registry_over_openai() -> None:
    assert settled() == SamplingSettings(max_tokens=10, stop=("A", "B"), stop_token_ids=(2,))
    ours = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 500, "seed": 1}
    assert settled(ours, top_p=0.1, seed=0, max_tokens=99) == SamplingSettings(
        max_tokens=10, stop=("A", "B"), stop_token_ids=(2,), temperature=0.5, top_p=0.1, seed=0
    )


def test_zero_is_a_value() -> None:
    found = settled({"temperature": 0.5, "presence_penalty": 1.0}, temperature=0.0, logprobs=0)
    assert (found.temperature, found.presence_penalty, found.logprobs) == (0.0, 1.0, 0)


@pytest.mark.parametrize("top_k", [-1, 0])
def test_all_tokens(top_k: int) -> None:
    assert settled({"top_k": 7}, top_k=top_k).top_k == 0
    assert settled({"top_k": top_k}).top_k == 0


def test_what_ends_the_answer_is_added_up() -> None:
    found = settled(stop=("B", "C"), stop_token_ids=(7, 2))
    assert (found.stop, found.stop_token_ids) == (("A", "B", "C"), (2, 7))


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"stop": ("",)}, "stop"),
        ({"stop": ("x",) * 65}, "stop"),
        ({"stop_token_ids": (100,)}, "stop_token_ids"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias"),
        ({"min_tokens": 11}, "min_tokens"),
    ],
)
def test_wrong_values(said: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        settled(**said)
    assert caught.value.param == param


def test_limits_themselves_are_fine() -> None:
    settled(stop=("x",) * 64, stop_token_ids=(0, 99), logit_bias={99: 1.0}, min_tokens=10)
    check_token_ids([], 0, param="x")
