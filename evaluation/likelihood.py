"""What a model finds likely: choices, and conversations that it has not seen.

A conversation is rendered by the server, each model in its own format, and scored as token ids: no
tokenizer is needed here, and what is measured is the prompt that users get. Where a server does not
render, choices are scored as plain text instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from evaluation.endpoint import Endpoint
from evaluation.errors import CannotScore
from evaluation.items import Choice, ChoiceTask, digest
from evaluation.jobs import Job, together
from evaluation.loading import Conversation


def choice_key(model: str, item: Choice) -> str:
    """Of a choice's result: the right answer is no part of it."""
    asked = item.model_dump(exclude={"id", "answer"})
    return digest({"kind": "choice", "model": model, **asked})


def choice_jobs(endpoint: Endpoint, model: str, tasks: Sequence[ChoiceTask]) -> Iterator[Job]:
    """One job a question."""
    for task in tasks:
        for item in task.items:
            about = {"kind": "choice", "model": model, "task": task.name, "item": item.id}
            yield Job(
                choice_key(model, item),
                about,
                lambda item=item: _choose(endpoint, model, item),  # type: ignore[misc]
            )


async def _choose(endpoint: Endpoint, model: str, item: Choice) -> dict[str, Any]:
    """Log-likelihood of each choice, in nats, and the number of tokens that it is the sum of."""
    user = {"role": "user", "content": item.prompt}
    try:
        prompt = await endpoint.conversation_ids(model, [user])
    except CannotScore:
        return await _choose_as_text(endpoint, model, item)

    async def score(choice: str) -> tuple[float, int]:
        said = [user, {"role": "assistant", "content": choice}]
        ids = await endpoint.conversation_ids(model, said, open_answer=True)
        begins = _common(prompt, ids)
        found = (await endpoint.logprobs(model, ids))[begins - 1 :]
        return sum(found), len(found)

    scores = await together(score(choice) for choice in item.choices)
    return _as_record(scores, "own")


async def _choose_as_text(endpoint: Endpoint, model: str, item: Choice) -> dict[str, Any]:
    async def score(choice: str) -> tuple[float, int]:
        found = await endpoint.text_logprobs(model, f"{item.prompt} {choice}")
        # A token that begins with the space before the choice is the choice's own.
        values = [value for at, value in found if at >= len(item.prompt)]
        return sum(values), len(values)

    scores = await together(score(choice) for choice in item.choices)
    return _as_record(scores, "text")


def _as_record(scores: list[tuple[float, int]], form: str) -> dict[str, Any]:
    return {
        "logprobs": [round(value, 6) for value, _ in scores],
        "tokens": [count for _, count in scores],
        "form": form,
    }


def loss_key(model: str, conversation: Conversation) -> str:
    """Of a conversation's result."""
    said = [message.as_openai() for message in conversation.messages]
    return digest({"kind": "loss", "model": model, "messages": said})


def loss_jobs(
    endpoint: Endpoint, model: str, conversations: Sequence[Conversation]
) -> Iterator[Job]:
    """One job a conversation."""
    for number, conversation in enumerate(conversations, 1):
        about = {"kind": "loss", "model": model, "row": number}
        yield Job(
            loss_key(model, conversation),
            about,
            lambda conversation=conversation: _score(  # type: ignore[misc]
                endpoint, model, conversation
            ),
        )


async def _score(endpoint: Endpoint, model: str, conversation: Conversation) -> dict[str, Any]:
    """Nats over the answers' own tokens, and over the token that ends each where there is one."""
    messages = [message.as_openai() for message in conversation.messages]
    answers = [
        number
        for number, message in enumerate(messages)
        if number and message["role"] == "assistant" and message["content"]
    ]
    parts = await together(
        score_answer(endpoint, model, messages[: number + 1]) for number in answers
    )
    totals = {name: sum(part[name] for part in parts) for name in parts[0]}
    totals["bytes"] = sum(len(messages[number]["content"].encode()) for number in answers)
    return {name: round(value, 6) for name, value in totals.items()}


async def score_answer(
    endpoint: Endpoint, model: str, messages: Sequence[dict[str, Any]]
) -> dict[str, float]:
    """The likelihood of a conversation's last message, given what comes before it.

    Returns:
        ``nats`` over ``tokens`` of its text; ``end_nats`` over ``end_tokens``, 1 or 0, of what ends
        its turn, such as an EOS token.
    """
    prompt, answered, ended = await together(
        (
            endpoint.conversation_ids(model, messages[:-1]),
            endpoint.conversation_ids(model, messages, open_answer=True),
            endpoint.conversation_ids(model, messages),
        )
    )
    begins, ends = _common(prompt, answered), len(answered)
    # Where the text's last token is another one without what follows, its end is no token alone.
    has_end = len(ended) > ends and _common(answered, ended) == ends
    scored = ended[: ends + 1] if has_end else answered
    found = await endpoint.logprobs(model, scored)
    text, end = found[begins - 1 : ends - 1], found[ends - 1 :]
    return {
        "nats": -sum(text),
        "tokens": len(text),
        "end_nats": -sum(end),
        "end_tokens": len(end),
    }


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two lists share at their beginning, at least 1: the first token is given."""
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return max(1, sum(1 for _ in shared))
