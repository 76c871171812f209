"""Kept results become figures: rates, losses, differences, verdicts, each with its interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation import intervals
from evaluation.figures import ALL, Chosen, Difference, Given, Loss, Match, Results, Sample
from evaluation.intervals import Interval
from evaluation.items import ChoiceTask, Item, Task
from evaluation.judging import pairings
from evaluation.likelihood import choice_key, loss_key
from evaluation.loading import Conversation, Suite
from evaluation.options import Options
from evaluation.questions import answer_key
from evaluation.sandbox import Sandbox
from evaluation.scoring import Verdict, judge_by_rules
from evaluation.store import Store


@dataclass(frozen=True, slots=True)
class Source:
    """All that figures are made of."""

    options: Options
    suite: Suite
    held_out: tuple[Conversation, ...]
    store: Store


async def summarise(source: Source, sandbox: Sandbox) -> Results:
    """Score what there is, and count."""
    samples = [
        Sample(task, item, await _answers(source, task, item, sandbox))
        for task in source.suite.tasks
        for item in task.items
    ]
    models, base = source.options.models, source.options.base
    results = Results(
        models=models,
        baseline=base,
        samples=samples,
        rates={model: _rates(samples, model) for model in models},
        ended=_ended(samples, models),
        differences={m: _differences(samples, m, base) for m in models if m != base},
        chosen={model: _chosen(source, model) for model in models},
        loss=_losses(source),
        matches=_matches(source),
    )
    results.notes += _notes(samples, models)
    return results


async def _answers(source: Source, task: Task, item: Item, sandbox: Sandbox) -> dict[str, Given]:
    given = {}
    asking = source.options.asking
    for model in source.options.models:
        keys = [answer_key(asking, model, task, item, seed) for seed in asking.seeds]
        records = [record for key in keys if (record := source.store.get(key)) is not None]
        if not records:
            continue
        verdicts = [await _verdict(task, item, record, sandbox) for record in records]
        first = records[0]
        given[model] = Given(
            first.get("text", ""), first.get("finish_reason"), first.get("error"), tuple(verdicts)
        )
    return given


async def _verdict(task: Task, item: Item, record: dict[str, Any], sandbox: Sandbox) -> Verdict:
    if "error" in record:
        return Verdict(None, (f"the server refused the request: {record['error']}",))
    if item.score is None:
        return Verdict(None)
    return await judge_by_rules(item.score, record["text"], sandbox, task.echo(item))


def _rates(samples: Sequence[Sample], model: str) -> dict[str, dict[str, Interval]]:
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in samples:
        given = sample.answers.get(model)
        if given is None or given.score is None:
            continue
        for category in (sample.task.category, ALL):
            for language in (sample.task.language, ALL):
                scores[category, language].append(given.score)
    rates: dict[str, dict[str, Interval]] = defaultdict(dict)
    for (category, language), values in scores.items():
        rates[category][language] = rate(values)
    return dict(rates)


def rate(scores: Sequence[float]) -> Interval:
    """Wilson's interval for ones and zeros, a bootstrap where several seeds make fractions."""
    if all(score in (0, 1) for score in scores):
        return intervals.wilson(sum(scores), len(scores))
    return intervals.mean(scores)


def _ended(samples: Sequence[Sample], models: Iterable[str]) -> dict[str, Interval]:
    found = {}
    for model in models:
        reasons = [s.answers[model].finish_reason for s in samples if model in s.answers]
        if told := [reason for reason in reasons if reason is not None]:
            found[model] = intervals.wilson(told.count("stop"), len(told))
    return found


def _differences(samples: Sequence[Sample], model: str, base: str) -> dict[str, Difference]:
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        given = [sample.answers.get(one) for one in (model, base)]
        ours, theirs = (one.score if one else None for one in given)
        if ours is None or theirs is None:
            continue
        pairs[sample.task.category].append((ours, theirs))
        pairs[ALL].append((ours, theirs))
    differences = {}
    for category, both in pairs.items():
        ours_all, theirs_all = [one for one, _ in both], [other for _, other in both]
        whole = all(score in (0, 1) for pair in both for score in pair)
        differences[category] = Difference(
            intervals.rate_difference(ours_all, theirs_all),
            intervals.mcnemar(ours_all, theirs_all) if whole else None,
        )
    return differences


def _chosen(source: Source, model: str) -> dict[str, Chosen]:
    found = {}
    for task in source.suite.choices:
        if (chosen := _choice_rates(source.store, model, task)) is not None:
            found[task.name] = chosen
    return found


def _choice_rates(store: Store, model: str, task: ChoiceTask) -> Chosen | None:
    plain, normalised, forms = [], [], set()
    for item in task.items:
        record = store.get(choice_key(model, item)) or {}
        if "logprobs" not in record:
            continue
        scores = record["logprobs"]
        each = [score / len(text) for score, text in zip(scores, item.choices, strict=True)]
        plain.append(float(scores.index(max(scores)) == item.answer))
        normalised.append(float(each.index(max(each)) == item.answer))
        forms.add(record["form"])
    if not plain:
        return None
    chance = sum(1 / len(item.choices) for item in task.items) / len(task.items)
    return Chosen(rate(plain), rate(normalised), "/".join(sorted(forms)), chance)


def _losses(source: Source) -> dict[str, Loss]:
    rows = {
        model: [source.store.get(loss_key(model, row)) or {} for row in source.held_out]
        for model in source.options.models
    }
    base = rows[source.options.base]
    return {
        model: loss
        for model, records in rows.items()
        if (loss := _loss(records, base if records is not base else [])) is not None
    }


def _loss(records: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]]) -> Loss | None:
    scored = [record for record in records if "nats" in record]
    if not scored:
        return None
    text = [(record["nats"], record["tokens"]) for record in scored]
    ends = [
        (record["nats"] + record["end_nats"], record["tokens"] + record["end_tokens"])
        for record in scored
        if record["end_tokens"]
    ]
    in_bits = [(record["nats"] / math.log(2), record["bytes"]) for record in scored]
    return Loss(
        text=intervals.ratio(text),
        with_end=intervals.ratio(ends) if ends else None,
        bits_per_byte=intervals.ratio(in_bits),
        tokens=sum(record["tokens"] for record in scored),
        worse=_worse(records, base),
    )


def _worse(records: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]]) -> Interval | None:
    pairs = [
        ((one["nats"], one["tokens"]), (other["nats"], other["tokens"]))
        for one, other in zip(records, base, strict=False)
        if "nats" in one and "nats" in other
    ]
    if not pairs:
        return None
    ours, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    return intervals.ratio_difference(ours, theirs)


def _matches(source: Source) -> list[Match]:
    options = source.options
    if options.judge is None:
        return []
    return [_match(source, options.judge, one, other) for one, other in options.pairs]


def _match(source: Source, judge: str, one: str, other: str) -> Match:
    asking, tasks = source.options.asking, source.suite.tasks
    outcomes: list[float] = []
    firsts: list[bool] = []
    split = unusable = 0
    for pairing in pairings(judge, asking, [(one, other)], tasks):
        records = [source.store.get(key) for key in pairing.keys]
        if any(record is None for record in records):
            continue
        first, second = (record.get("verdict") for record in records if record)
        if first is None or second is None:
            unusable += 1
            continue
        firsts += [verdict == "A" for verdict in (first, second) if verdict != "tie"]
        # The second time the places are exchanged.
        outcome = {("A", "B"): 1.0, ("B", "A"): 0.0}.get((first, second), 0.5)
        split += first == second != "tie"
        outcomes.append(outcome)
    return Match(
        one=one,
        other=other,
        win=intervals.wilson(sum(outcomes), len(outcomes)) if outcomes else None,
        wins=outcomes.count(1.0),
        losses=outcomes.count(0.0),
        ties=outcomes.count(0.5),
        split=split,
        unusable=unusable,
        first=intervals.wilson(sum(firsts), len(firsts)) if firsts else None,
    )


def _notes(samples: Sequence[Sample], models: Sequence[str]) -> list[str]:
    notes = []
    for model in models:
        given = [sample.answers[model] for sample in samples if model in sample.answers]
        if missing := len(samples) - len(given):
            notes.append(f"{model}: {missing} of {len(samples)} items were not asked")
        if refused := sum(one.error is not None for one in given):
            notes.append(f"{model}: {refused} requests were refused, and are not counted")
    unrun = {
        reason
        for sample in samples
        for given in sample.answers.values()
        for verdict in given.verdicts
        if verdict.score is None
        for reason in verdict.reasons
        if reason.startswith("its code was not run")
    }
    return notes + [f"code is not scored: {reason}" for reason in sorted(unrun)]
