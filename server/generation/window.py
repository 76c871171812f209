"""Fit a conversation to the model's context, and say what was left out.

``drop_oldest`` drops whole turns, oldest first, and a step more than needed: the amount dropped is
rounded up to a multiple of a quarter of the context. The next turns of the same conversation
therefore drop exactly the same messages until another quarter is full, their prompts begin alike,
and vLLM's prefix cache keeps serving them. Without the rounding every turn would shift the whole
prompt and recompute it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Literal

from server.errors import ContextLengthExceeded
from server.prompts.conversation import Message
from server.prompts.formatter import Prompt

# Parts of the context that are dropped at once.
_STEPS = 4
# Room kept for the answer when the request leaves its length open: a quarter, at most this.
_OPEN_COMPLETION_TOKENS = 1024
_ASKING = frozenset({"system", "user"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What fits.

    Args:
        prompt: The rendered prompt of the messages that stayed.
        max_tokens: Most tokens the completion may take.
        dropped_messages: How many messages were left out, from the oldest turn on.
    """

    prompt: Prompt
    max_tokens: int
    dropped_messages: int = 0


def fit(
    messages: Sequence[Message],
    render: Callable[[Sequence[Message]], Prompt],
    estimate: Callable[[Message], int],
    *,
    context: int,
    max_tokens: int | None,
    default_max_tokens: int | None,
    overflow: Literal["error", "drop_oldest"],
    without_tools: Callable[[Sequence[Message]], Prompt] | None = None,
) -> Window:
    """Render ``messages`` so that prompt and completion fit ``context`` tokens.

    Args:
        render: Messages to prompt.
        estimate: Roughly the tokens of one message; only its consistency matters.
        max_tokens: Tokens the caller asked for the completion, which must fit; None: left open.
        default_max_tokens: The limit of an open completion, as far as there is room; None: none.
        overflow: ``error`` refuses what does not fit, ``drop_oldest`` drops turns.
        without_tools: As ``render``, but leaves tools out; the error tells their share then.

    Raises:
        ContextLengthExceeded: It does not fit, even after dropping all that may go.
    """
    prompt, kept = render(messages), messages
    reserve = _reserve(context, max_tokens, overflow)
    if len(prompt.token_ids) + reserve <= context:
        return _window(prompt, context, max_tokens or default_max_tokens, 0)
    tries = _shortened(messages, estimate, len(prompt.token_ids), context - reserve)
    for kept, dropped in tries if overflow == "drop_oldest" else ():
        prompt = render(kept)
        if len(prompt.token_ids) + reserve <= context:
            return _window(prompt, context, max_tokens or default_max_tokens, dropped)
    bare = len(without_tools(kept).token_ids) if without_tools else len(prompt.token_ids)
    raise ContextLengthExceeded(
        limit=context,
        prompt_tokens=len(prompt.token_ids),
        completion_tokens=max_tokens,
        tool_tokens=max(0, len(prompt.token_ids) - bare),
    )


def fit_text(
    prompt: Prompt, *, context: int, max_tokens: int | None, default_max_tokens: int
) -> Window:
    """As `fit` for a text or token prompt, which cannot be shortened."""
    if len(prompt.token_ids) + (max_tokens or 1) > context:
        raise ContextLengthExceeded(
            limit=context,
            prompt_tokens=len(prompt.token_ids),
            completion_tokens=max_tokens,
            param="prompt",
        )
    return _window(prompt, context, max_tokens or default_max_tokens, 0)


def _reserve(context: int, max_tokens: int | None, overflow: str) -> int:
    """Tokens the completion must at least have."""
    if max_tokens is not None:
        return max_tokens
    return 1 if overflow == "error" else max(1, min(context // 4, _OPEN_COMPLETION_TOKENS))


def _window(prompt: Prompt, context: int, limit: int | None, dropped: int) -> Window:
    room = context - len(prompt.token_ids)
    return Window(prompt=prompt, max_tokens=min(limit or room, room), dropped_messages=dropped)


def _shortened(
    messages: Sequence[Message],
    estimate: Callable[[Message], int],
    prompt_tokens: int,
    budget: int,
) -> Iterator[tuple[list[Message], int]]:
    """Ever shorter versions of the conversation, each with the number of messages it lacks.

    The last has nothing but the system messages and the last turn.
    """
    system, turns = _split_turns(messages)
    dropped_tokens = list(accumulate(sum(map(estimate, turn)) for turn in turns[:-1]))
    if not dropped_tokens:
        return
    step = max(1, budget // _STEPS)
    quarters = max(1, ceil((prompt_tokens - budget) / step))
    gone = 0
    while gone < len(dropped_tokens):
        # The shortest head of turns that holds this many tokens; all but the last turn at most.
        enough = bisect_left(dropped_tokens, quarters * step) + 1
        gone = min(max(enough, gone + 1), len(dropped_tokens))
        kept = [message for turn in turns[gone:] for message in turn]
        yield system + kept, sum(map(len, turns[:gone]))
        quarters = dropped_tokens[gone - 1] // step + 1


def _split_turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """Leading system messages, and turns: what is asked, with its instructions, and the answer."""
    head = 0
    while head < len(messages) and messages[head].role == "system":
        head += 1
    turns: list[list[Message]] = []
    for message in messages[head:]:
        asks = message.role in _ASKING
        if not turns or (asks and turns[-1][-1].role not in _ASKING):
            turns.append([])
        turns[-1].append(message)
    # Instructions after the last answer belong to it: the last turn has the last question.
    while len(turns) > 1 and all(message.role != "user" for message in turns[-1]):
        turns[-2:] = [turns[-2] + turns[-1]]
    return list(messages[:head]), turns
