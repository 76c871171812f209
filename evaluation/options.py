"""What a run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from evaluation.errors import WrongUsage
from evaluation.questions import Asking


@dataclass(frozen=True, slots=True)
class Options:
    """One run.

    Args:
        models: Stages, in the order in which they are shown; the first is the baseline unless
            ``baseline`` is another.
        suites: See `loading.load_suite`.
        held_out: A file of conversations; None for none, with ``needs_likelihoods`` False it is
            left out where an endpoint cannot score.
        judge: The model that compares answers; None for none.
        judge_url: Where it is, if not among the others.
        api_key: For other runners; `Endpoint` has its own.
        all_pairs: Whether every two models are compared, and not each with the baseline alone.
    """

    base_url: str
    models: tuple[str, ...]
    out: Path
    suites: tuple[str, ...] = ("all",)
    languages: tuple[str, ...] = ("en", "zh")
    limit: int | None = None
    held_out: Path | None = None
    needs_likelihoods: bool = False
    judge: str | None = None
    judge_url: str | None = None
    all_pairs: bool = False
    baseline: str = ""
    asking: Asking = field(default_factory=Asking)
    concurrency: int = 4
    timeout: float = 600.0
    runner: str = "own"
    api_key: str = field(default="none", repr=False)

    def __post_init__(self) -> None:
        if not self.models:
            raise WrongUsage("--models names no model")
        if len(set(self.models)) < len(self.models):
            raise WrongUsage("--models names a model twice")
        if self.baseline and self.baseline not in self.models:
            raise WrongUsage(f"--baseline {self.baseline} is none of --models")
        if unknown := sorted(self.asking.completions - {*self.models}):
            raise WrongUsage(f"--completions {', '.join(unknown)}: none of --models")
        if len(self.asking.seeds) > 1 and self.asking.temperature == 0:
            raise WrongUsage("several --seeds give the same answers at --temperature 0")

    @property
    def base(self) -> str:
        """The model that the others are compared with."""
        return self.baseline or self.models[0]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Who is compared with whom by a judge."""
        if self.all_pairs:
            return [
                (one, other)
                for number, one in enumerate(self.models)
                for other in self.models[number + 1 :]
            ]
        return [(model, self.base) for model in self.models if model != self.base]
