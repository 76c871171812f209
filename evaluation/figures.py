"""What a report is made of: figures with their intervals, and answers with their verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from evaluation.intervals import Interval
from evaluation.items import Item, Task
from evaluation.scoring import Verdict

ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Given:
    """A model's answer to an item under its first seed, and the verdicts under all.

    Args:
        score: Mean over the seeds; None where it is not scored.
    """

    text: str
    finish_reason: str | None
    error: str | None
    verdicts: tuple[Verdict, ...]

    @property
    def score(self) -> float | None:
        scores = [verdict.score for verdict in self.verdicts if verdict.score is not None]
        return sum(scores) / len(scores) if scores else None


@dataclass(frozen=True, slots=True)
class Sample:
    """An item, and what each model said to it."""

    task: Task
    item: Item
    answers: dict[str, Given]


@dataclass(frozen=True, slots=True)
class Loss:
    """A model on the held-out conversations.

    Args:
        text: Nats a token of the answers' text.
        with_end: The same with the token that ends each answer, as training sees it; None where
            the model's format has none.
        bits_per_byte: Of the answers' text, which models of other tokenizers can be held against.
        worse: Its difference to the baseline in nats a token, where both have the same tokens.
    """

    text: Interval
    with_end: Interval | None
    bits_per_byte: Interval
    tokens: int
    worse: Interval | None = None

    @property
    def perplexity(self) -> Interval:
        """e to the loss."""
        value, low, high = map(math.exp, (self.text.value, self.text.low, self.text.high))
        return Interval(value, low, high, self.text.n)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model on a task of choices: by likelihood, and by likelihood a character."""

    plain: Interval
    normalised: Interval
    form: str
    chance: float


@dataclass(frozen=True, slots=True)
class Match:
    """Two models before a judge.

    Args:
        win: Rate at which ``one`` wins, a tie being half.
        first: Rate at which the first place won, of verdicts that were no tie; 0.5 is fair.
        split: Items on which the two orders disagreed.
        unusable: Items on which a verdict was none.
    """

    one: str
    other: str
    win: Interval | None
    wins: int
    losses: int
    ties: int
    split: int
    unusable: int
    first: Interval | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A model's rate minus the baseline's, on the items that both have; p by McNemar's test."""

    change: Interval
    p: float | None


@dataclass(slots=True)
class Results:
    """A report's content.

    Args:
        rates: By model, category (or ``all``) and language (or ``all``).
        ended: By model, the rate of answers that it ended by itself.
        differences: By model and category (or ``all``), to the baseline.
    """

    models: tuple[str, ...]
    baseline: str
    samples: list[Sample]
    rates: dict[str, dict[str, dict[str, Interval]]]
    ended: dict[str, Interval]
    differences: dict[str, dict[str, Difference]]
    chosen: dict[str, dict[str, Chosen]]
    loss: dict[str, Loss]
    matches: list[Match]
    notes: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
