"""A whole run against a scripted server: what is asked, kept, asked again, and reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.endpoint import Endpoint
from evaluation.errors import CannotScore, EndpointError, ModelMissing, OtherRun
from evaluation.items import digest
from evaluation.options import Options
from evaluation.questions import Asking
from evaluation.run import evaluate
from server.engines.base import Delta, GenerationRequest
from tests.support.ranch import Ranch
from tests.unit.evaluation.conftest import Quiet, likes, says, task_file

Connect = Callable[[str | None], Endpoint]
TASK = """
category: knowledge
language: en
items:
  - {id: france, prompt: 'The capital of France?', score: {says: [Paris]}}
  - {id: sum, prompt: 'What is 2 + 2?', score: {number: 4}, judge: true}
"""


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., Options]:
    path = task_file(tmp_path / "task.yaml", TASK)

    def make(*models: str, **fields: Any) -> Options:
        given = {"out": tmp_path / "out", "suites": (str(path),)} | fields
        return Options(base_url="http://x/v1", models=models or ("tiny",), **given)

    return make


async def test_answers_are_scored_and_reported(
    options: Callable[..., Options], ranch: Ranch, connect: Connect, quiet: Quiet
) -> None:
    ranch.script = lambda request: (
        [Delta(0, "Paris, or 4.", [9], finish_reason="stop")]
        if len(request.prompt_token_ids) < 60
        else [Delta(0, "Five", [9], finish_reason="length")]
    )
    given = options("tiny", "other")
    results = await evaluate(given, connect, quiet)
    rate = results.rates["tiny"]["knowledge"]["en"]
    assert (rate.value, rate.n) == (1.0, 2)
    assert results.ended["other"].value == 1.0
    assert results.differences["other"]["all"].change.value == 0.0
    assert sorted(path.name for path in given.out.iterdir()) == [
        "plots",
        "report.html",
        "report.json",
        "report.md",
        "results.jsonl",
    ]
    figures = json.loads((given.out / "report.json").read_text())
    assert figures["scores"][0] == {
        "task": "knowledge/en",
        "item": "france",
        "scores": {"tiny": 1.0, "other": 1.0},
    }
    assert quiet.stages == [("tiny: questions", 2, 0), ("other: questions", 2, 0)]


async def test_requests_are_the_same_each_time(
    options: Callable[..., Options], ranch: Ranch, connect: Connect, quiet: Quiet
) -> None:
    await evaluate(options(), connect, quiet)
    for request in ranch.requests:
        sampling = request.sampling
        assert (sampling.temperature, sampling.seed, sampling.max_tokens) == (0.0, 0, 160)


async def test_what_is_known_is_not_asked_again(
    options: Callable[..., Options], ranch: Ranch, connect: Connect, quiet: Quiet
) -> None:
    first = await evaluate(options(), connect, quiet)
    asked = len(ranch.requests)
    again = await evaluate(options(), connect, quiet)
    assert len(ranch.requests) == asked == 2
    assert quiet.stages[-1] == ("tiny: questions", 2, 2)
    assert again.rates == first.rates
    await evaluate(options(asking=Asking(temperature=0.5)), connect, quiet)
    assert len(ranch.requests) == 4


async def test_a_run_that_broke_off_goes_on(
    options: Callable[..., Options], ranch: Ranch, url: str, quiet: Quiet
) -> None:
    def connect(_: str | None) -> Endpoint:
        return Endpoint(url, "none", concurrency=1, retries=0)

    answers = iter(["Paris", None])

    def script(_: GenerationRequest) -> list[Any]:
        text = next(answers)
        if text is None:
            return [RuntimeError("broken")]
        return [Delta(0, text, [9], finish_reason="stop")]

    ranch.script = script
    given = options()
    with pytest.raises(EndpointError, match="answers 500"):
        await evaluate(given, connect, quiet)
    kept = (given.out / "results.jsonl").read_text().splitlines()
    assert [json.loads(line).get("text") for line in kept] == ["Paris", None]
    # As if the machine had gone down in the middle of a line.
    with (given.out / "results.jsonl").open("a") as file:
        file.write('{"key": "half')
    ranch.script = says("4")
    results = await evaluate(given, connect, quiet)
    assert results.rates["tiny"]["all"]["all"].value == 1.0
    assert quiet.stages[-1] == ("tiny: questions", 2, 1)
    lines = (given.out / "results.jsonl").read_text().splitlines()
    assert [json.loads(line).get("text") for line in lines] == ["Paris", None, "4", None]
    # Both runs that asked something are told of, and when.
    assert len(results.about["server version"]) == 1
    assert len(results.about["endpoint"]) == 1
    asked = [json.loads(line)["begun"] for line in lines if '"kind": "run"' in line]
    assert results.about["asked"] == [*dict.fromkeys(asked)]


async def test_rules_may_change_without_asking_again(
    options: Callable[..., Options], ranch: Ranch, connect: Connect, quiet: Quiet, tmp_path: Path
) -> None:
    ranch.script = says("It is Rome.")
    assert (await evaluate(options(), connect, quiet)).rates["tiny"]["all"]["all"].value == 0.0
    task_file(tmp_path / "task.yaml", TASK.replace("Paris", "Rome"))
    assert (await evaluate(options(), connect, quiet)).rates["tiny"]["all"]["all"].value == 0.5
    assert len(ranch.requests) == 2


async def test_a_report_can_be_made_again_without_the_server(
    options: Callable[..., Options], connect: Connect, quiet: Quiet
) -> None:
    first = await evaluate(options(), connect, quiet)
    gone = lambda _: Endpoint("http://127.0.0.1:9/v1", "none", retries=0)  # noqa: E731
    again = await evaluate(options(), gone, quiet)
    assert again.rates == first.rates
    assert again.about == first.about


async def test_a_model_that_is_not_there(
    options: Callable[..., Options], ranch: Ranch, connect: Connect, quiet: Quiet
) -> None:
    with pytest.raises(
        ModelMissing, match=r"no model nobody; it has tiny, other, plain, alpaca, short$"
    ):
        await evaluate(options("tiny", "nobody"), connect, quiet)
    assert ranch.requests == []


async def test_a_refused_request_is_not_counted(
    options: Callable[..., Options], connect: Connect, quiet: Quiet, tmp_path: Path
) -> None:
    task_file(tmp_path / "task.yaml", TASK.replace("What is", "word " * 30 + "what is"))
    results = await evaluate(options("short", asking=Asking(max_tokens=4)), connect, quiet)
    assert results.rates["short"]["all"]["all"].n == 1
    assert "short: 1 requests were refused, and are not counted" in results.notes
    refused = results.samples[1].answers["short"]
    assert refused.score is None
    assert refused.error is not None
    assert "context" in refused.error


async def test_a_folder_with_other_files_is_left_alone(
    options: Callable[..., Options], connect: Connect, quiet: Quiet, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(OtherRun, match=r"no results\.jsonl"):
        await evaluate(options(), connect, quiet)


async def test_bare_text_for_models_that_know_no_chat(
    options: Callable[..., Options], ranch: Ranch, connect: Connect, quiet: Quiet
) -> None:
    asking = Asking(completions=frozenset({"plain"}))
    await evaluate(options("plain", asking=asking), connect, quiet)
    # About one byte a token, and none of a format.
    assert sorted(len(request.prompt_token_ids) for request in ranch.requests) == [14, 21]


async def test_several_seeds(
    options: Callable[..., Options], ranch: Ranch, connect: Connect, quiet: Quiet
) -> None:
    ranch.script = lambda request: [
        Delta(0, "Paris 4" if request.sampling.seed == 1 else "no", [9], finish_reason="stop")
    ]
    asking = Asking(temperature=1.0, seeds=(1, 2, 3))
    results = await evaluate(options(asking=asking), connect, quiet)
    assert len(ranch.requests) == 6
    rate = results.rates["tiny"]["all"]["all"]
    assert (round(rate.value, 4), rate.n) == (0.3333, 2)


async def test_the_judge_decides_by_both_orders(
    options: Callable[..., Options], ranch: Ranch, connect: Connect, quiet: Quiet
) -> None:
    def script(request: GenerationRequest) -> list[Delta]:
        if request.sampling.constraint is None:
            return [Delta(0, "4", [9], finish_reason="stop")]
        return [Delta(0, '{"verdict": "A"}', [9], finish_reason="stop")]

    ranch.script = script
    results = await evaluate(options("tiny", "other", judge="tiny"), connect, quiet)
    (match,) = results.matches
    assert (match.one, match.other, match.wins, match.losses, match.ties) == (
        "other",
        "tiny",
        0,
        0,
        1,
    )
    assert match.split == 1
    assert match.first is not None
    assert (match.first.value, match.first.n) == (1.0, 2)


async def test_likelihoods(
    options: Callable[..., Options],
    ranch: Ranch,
    connect: Connect,
    quiet: Quiet,
    tmp_path: Path,
) -> None:
    ranch.script = likes(lambda _: -0.5)
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "abc"}]}
    held_out = task_file(tmp_path / "rows.jsonl", json.dumps(row) + "\n")
    results = await evaluate(options("tiny", "plain", held_out=held_out), connect, quiet)
    loss = results.loss["tiny"]
    assert (loss.text.value, loss.tokens, loss.text.n) == (0.5, 3, 1)
    assert loss.with_end is not None
    assert results.loss["plain"].with_end is None
    assert loss.perplexity.value == pytest.approx(1.6487, abs=1e-4)
    assert loss.bits_per_byte.value == pytest.approx(0.5 / 0.6931, abs=1e-3)
    assert results.loss["plain"].worse is not None


async def test_an_endpoint_without_likelihoods_is_left_out_of_them(
    options: Callable[..., Options], ranch: Ranch, connect: Connect, quiet: Quiet, tmp_path: Path
) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "abc"}]}
    held_out = task_file(tmp_path / "rows.jsonl", json.dumps(row) + "\n")
    results = await evaluate(options(held_out=held_out), connect, quiet)
    assert results.loss == {}
    assert results.notes[0].startswith("left out (tiny: held-out): http://127.0.0.1")
    with pytest.raises(CannotScore):
        await evaluate(options(held_out=held_out, needs_likelihoods=True), connect, quiet)


def test_a_digest_changes_with_the_content() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
