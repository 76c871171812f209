"""Likelihoods: which tokens are counted, in the format of each model."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.endpoint import Endpoint
from evaluation.items import Choice, ChoiceTask, Message
from evaluation.likelihood import choice_jobs, loss_jobs, score_answer
from evaluation.loading import Conversation
from tests.support.ranch import Ranch, user
from tests.unit.evaluation.conftest import likes

# <|im_start|>, <|im_end|> and a byte of the tiny model's tokenizer.
END = 2
A, B = 67, 68


def answered(text: str) -> list[dict[str, str]]:
    return [user("Hi"), {"role": "assistant", "content": text}]


async def test_the_answer_alone_is_counted(endpoint: Endpoint, ranch: Ranch) -> None:
    ranch.script = likes(lambda token: {A: -1.0, B: -2.0, END: -0.25}.get(token, -100.0))
    scored = await score_answer(endpoint, "tiny", answered("ab"))
    assert scored == {"nats": 3.0, "tokens": 2, "end_nats": 0.25, "end_tokens": 1}
    (request,) = ranch.requests
    # The line break behind the end is the template's, and no model is asked to write it.
    assert list(request.prompt_token_ids)[-3:] == [A, B, END]


async def test_a_format_without_an_end(endpoint: Endpoint, ranch: Ranch) -> None:
    ranch.script = likes(lambda _: -0.5)
    scored = await score_answer(endpoint, "plain", answered("ab"))
    # "Hi", then the line break that joins texts, then the answer.
    assert scored == {"nats": 1.5, "tokens": 3, "end_nats": 0, "end_tokens": 0}


async def test_every_answer_of_a_conversation(endpoint: Endpoint, ranch: Ranch) -> None:
    ranch.script = likes(lambda _: -0.5)
    turns = [*answered("ab"), user("More"), {"role": "assistant", "content": "aba"}]
    conversation = Conversation("x:1", tuple(Message.model_validate(turn) for turn in turns))
    (job,) = loss_jobs(endpoint, "tiny", [conversation])
    assert await job.ask() == {
        "nats": 2.5,
        "tokens": 5,
        "end_nats": 1.0,
        "end_tokens": 2,
        "bytes": 5,
    }
    # The second answer is scored with the first one before it.
    lengths = sorted(len(request.prompt_token_ids) for request in ranch.requests)
    assert lengths[1] > lengths[0] + 10
    assert job.about == {"kind": "loss", "model": "tiny", "row": 1}


def choices(**fields: Any) -> ChoiceTask:
    item = {"id": "x", "prompt": "Hi", "choices": ["a", "bb"], "answer": 0} | fields
    return ChoiceTask(choices="test", language="en", items=[Choice.model_validate(item)])


@pytest.mark.parametrize(("model", "prefix"), [("tiny", 0.0), ("plain", -7.0)])
async def test_choices(model: str, prefix: float, endpoint: Endpoint, ranch: Ranch) -> None:
    ranch.script = likes(lambda token: {A: -3.0, B: -2.0}.get(token, -7.0))
    (job,) = choice_jobs(endpoint, model, [choices()])
    found = await job.ask()
    assert found["logprobs"] == [prefix - 3.0, prefix - 4.0]
    assert found["tokens"] == [1 + bool(prefix), 2 + bool(prefix)]
    assert found["form"] == "own"


async def test_the_right_answer_is_no_part_of_what_is_asked(endpoint: Endpoint) -> None:
    (one,) = choice_jobs(endpoint, "tiny", [choices()])
    (other,) = choice_jobs(endpoint, "tiny", [choices(answer=1)])
    (another,) = choice_jobs(endpoint, "tiny", [choices(choices=["a", "b"])])
    assert one.key == other.key != another.key


async def test_what_an_instruction_is_about_goes_where_the_format_has_it(
    endpoint: Endpoint, ranch: Ranch
) -> None:
    message = Message(role="user", content="Sort.", input="b a")
    other = Message(role="user", content="Sort.\nb a")
    alpaca = await endpoint.conversation_ids("alpaca", [message.as_openai()])
    own = [{"role": "user", "content": "Sort.", "input": "b a"}]
    assert alpaca == await endpoint.conversation_ids("alpaca", own)
    assert alpaca != await endpoint.conversation_ids("alpaca", [other.as_openai()])
    # A format without a place for it has it behind the instruction.
    chatml = await endpoint.conversation_ids("tiny", [message.as_openai()])
    assert chatml == await endpoint.conversation_ids("tiny", [other.as_openai()])
