"""Log-probabilities in the two shapes of OpenAI's API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from server.engines.base import PositionLogprobs, TokenLogprob

TokenBytes = Callable[[int], bytes]


def chat_logprobs(
    positions: Sequence[PositionLogprobs] | None, top: int, token_bytes: TokenBytes
) -> dict[str, Any] | None:
    """The chat format: each token with its bytes and its ``top`` likeliest alternatives.

    Engines add the drawn token where it is not among the likeliest; OpenAI does so in legacy
    completions alone.
    """
    if not positions:
        return None

    def shown(token: TokenLogprob) -> dict[str, Any]:
        return {
            "token": token.token,
            "logprob": _finite(token.logprob),
            "bytes": list(token_bytes(token.token_id)),
        }

    content = [
        shown(position.drawn) | {"top_logprobs": [shown(token) for token in position.top[:top]]}
        for position in positions
    ]
    return {"content": content, "refusal": None}


def text_logprobs(
    positions: Sequence[PositionLogprobs] | None, offset: int = 0
) -> dict[str, Any] | None:
    """The legacy format: parallel lists, with each token's offset in the text (characters)."""
    if not positions:
        return None
    offsets: list[int] = []
    for position in positions:
        offsets.append(offset)
        offset += len(position.drawn.token)
    return {
        "tokens": [position.drawn.token for position in positions],
        "token_logprobs": [_finite(position.drawn.logprob) for position in positions],
        "top_logprobs": [
            {token.token: _finite(token.logprob) for token in position.top} or None
            for position in positions
        ],
        "text_offset": offsets,
    }


def prompt_logprobs(
    positions: Sequence[PositionLogprobs | None] | None,
) -> list[dict[str, Any] | None] | None:
    """vLLM's own format: for each prompt token its likeliest alternatives by id, None at first."""
    if positions is None:
        return None
    return [
        None
        if position is None
        else {
            str(token.token_id): {
                "logprob": _finite(token.logprob),
                "rank": token.rank,
                "decoded_token": token.token,
            }
            for token in position.top
        }
        for position in positions
    ]


def _finite(logprob: float | None) -> float | None:
    """JSON has no -Infinity; OpenAI sends -9999.0 for what is practically impossible."""
    return None if logprob is None else max(logprob, -9999.0)
