"""What an engine holds at every moment, beside what the ledger counts for it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.errors import BenchError
from benchmarks.machine import ENVIRONMENT, ROOT
from benchmarks.options import Session, positive, say
from benchmarks.report import Report
from benchmarks.servers import Model

MIB = 1 << 20
# How far the ledger's sum may lie above what is held while every stream runs.
MOST_ABOVE = 1.15
PHASES = {
    "load": "while it loads",
    "idle": "loaded, nothing asked",
    "streams": "{} answers at once",
    "after": "after them",
}
_LIVES = ("the first time", "once it has been measured")


@dataclass(frozen=True, slots=True)
class Held:
    """The most of one phase of a life, in bytes: see `memory_probe.Sample`."""

    life: str
    phase: str
    ledger: int
    pss: int
    uss: int
    rss: int
    below: int
    """Samples whose PSS was above the ledger's sum."""

    @property
    def above(self) -> float:
        """The ledger's sum over what was held at the most."""
        return self.ledger / self.pss


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this measurement."""
    parser.add_argument("--streams", type=positive, default=16, help="answers at once [16]")


def measure(session: Session) -> Report:
    """Two lives of the first model's engine: counted by estimate, and by what the first took."""
    options = session.options
    with TemporaryDirectory(prefix="corral-memory-") as folder:
        lives = probe(session.model, Path(folder), options.streams, options.timeout)
    found = phases(lives)
    for held in found:
        say(f"{held.life}, {held.phase}: {held.ledger / held.pss:.2f} of what is held")
    return Report(
        section="memory",
        title="Memory of an engine",
        table=table(found, options.streams),
        runs=[asdict(held) for held in found],
        notes=[
            "MiB, the most of samples every 0.2 s; PSS counts pages that an engine shares with the "
            "process it was forked from by their part, USS not at all, RSS in full. "
            f"Bytes that did not come back at the end: {sum(life['missing'] for life in lives)}."
        ],
        missed=missed(found, lives),
    )


def probe(model: Model, folder: Path, streams: int, timeout_s: float) -> list[dict[str, Any]]:
    """Run `memory_probe` in a process of its own.

    Raises:
        BenchError: It failed.
    """
    command = (sys.executable, "-m", "benchmarks.memory_probe", str(model.registry), model.id)
    done = subprocess.run(
        [*command, str(model.cache_dir), str(folder), str(streams)],
        cwd=ROOT,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode or not done.stdout.strip():
        raise BenchError(f"the probe failed:\n{done.stderr[-2000:]}")
    lives: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return lives


def phases(lives: list[dict[str, Any]]) -> list[Held]:
    """The most of each phase of each life."""
    found = []
    for name, life in zip(_LIVES, lives, strict=True):
        for phase in PHASES:
            samples = [sample for sample in life["samples"] if sample["phase"] == phase]
            if not samples:
                raise BenchError(f"nothing was seen {name} of the phase '{phase}'")
            sizes = {
                kind: max(sample[kind] for sample in samples) for kind in ("pss", "uss", "rss")
            }
            below = sum(sample["pss"] > sample["ledger"] for sample in samples)
            ledger = max(sample["ledger"] for sample in samples)
            found.append(Held(name, phase, ledger, below=below, **sizes))
    return found


def table(found: list[Held], streams: int) -> list[list[str]]:
    """One row a phase."""
    rows = [["", "moment", "ledger", "PSS", "USS", "RSS", "ledger / PSS"]]
    life = ""
    for held in found:
        first, life = held.life if held.life != life else "", held.life
        sizes = [f"{size / MIB:,.0f}" for size in (held.ledger, held.pss, held.uss, held.rss)]
        rows.append([first, PHASES[held.phase].format(streams), *sizes, f"{held.above:.2f}"])
    return rows


def missed(found: list[Held], lives: list[dict[str, Any]]) -> list[str]:
    """Moments at which more was held than was counted, or far less."""
    lines = [
        f"{held.life}, {held.phase}: {held.below} samples above the ledger's sum"
        for held in found
        if held.below
    ]
    lines += [
        f"{held.life}: the ledger's sum is {held.above:.2f} times what is held, limit {MOST_ABOVE}"
        for held in found
        if held.phase == "streams" and held.above > MOST_ABOVE
    ]
    return lines + [
        f"{life['missing']} bytes did not come back" for life in lives if life["missing"]
    ]
