"""What adapters cost: Corral without and with them, vLLM's own server with them, on one load."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from benchmarks import load
from benchmarks.load import Load, LoadGenerator, Measured
from benchmarks.options import Session, add_rounds, say
from benchmarks.ratios import Comparison, Limit, missed
from benchmarks.report import Report
from benchmarks.servers import Model, Server, System, corral, vllm
from tests.support.adapters import LINEARS, linear_shapes, write_adapter

# Corral without room for adapters, with, and vLLM's server with.
PLAIN, WITH, PEER = "Corral, no adapters", "Corral", "vLLM"
MANY = 8
_RANK = 16
_ADAPTERS = ("one", "two")


@dataclass(frozen=True, slots=True)
class Run:
    """One load on one server."""

    system: str
    who: str
    """``base``, ``adapter`` or ``mixed``: base and both adapters in turn."""
    round: int
    load: Load
    measured: Measured


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this measurement."""
    add_rounds(parser, 2)


def measure(session: Session) -> Report:
    """Three servers, one at a time, ``--rounds`` times; in each round all get the same seeds."""
    options = session.options
    folders = dict(_write_adapters(session.model.directory, session.logs))
    systems = {
        PLAIN: corral(session.model),
        WITH: _corral_with(session.model, folders, session.logs),
        PEER: _vllm_with(session.model, folders, options.vllm_args),
    }
    runs: list[Run] = []
    for number in range(1, options.rounds + 1):
        for name, system in systems.items():
            runs += _measure_server(session, name, system, number)
    comparisons = compare(runs)
    return Report(
        section="adapters",
        title="Adapters",
        table=[["streams", "output tokens/s of", "beside", "", "", "ratio", "limit", ""]]
        + [comparison.row() for comparison in comparisons],
        runs=[asdict(run) for run in runs],
        notes=[_note(options.rounds)],
        missed=missed(comparisons),
    )


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """What room for adapters costs the base, what they cost, and what vLLM's way costs."""

    def speeds(system: str, who: str, streams: int) -> list[float]:
        return [
            run.measured.tokens_per_s
            for run in runs
            if (run.system, run.who, run.load.streams) == (system, who, streams)
        ]

    def beside(streams: int, ours: tuple[str, str], theirs: tuple[str, str], limit: Limit) -> None:
        label = (str(streams), *(f"{who}, {system}" for system, who in (ours, theirs)))
        found.append(Comparison(label, speeds(*ours, streams), speeds(*theirs, streams), limit))

    found: list[Comparison] = []
    for streams in (1, MANY):
        beside(streams, (WITH, "base"), (PLAIN, "base"), Limit("≥", 0.95))
        beside(streams, (WITH, "adapter"), (WITH, "base"), Limit("≥", 0.8))
    beside(MANY, (WITH, "mixed"), (WITH, "base"), Limit("≥", 0.6))
    for streams in (1, MANY):
        beside(streams, (WITH, "base"), (PEER, "base"), Limit("≥", 1.4))
        beside(streams, (WITH, "adapter"), (PEER, "adapter"), Limit("≥", 1.4))
    beside(MANY, (WITH, "mixed"), (PEER, "mixed"), Limit("≥", 1.4))
    return found


def _measure_server(session: Session, name: str, system: System, number: int) -> Iterator[Run]:
    options = session.options
    loads = [("base", streams) for streams in (1, MANY)]
    if name != PLAIN:
        loads += [("adapter", 1), ("adapter", MANY), ("mixed", MANY)]
    say(f"round {number}: starting {name}")
    with Server(system, session.logs, options.port) as server:
        server.wait_ready(session.model.id, options.timeout)
        with LoadGenerator(server, session.model, session.logs, options.timeout) as generator:
            for who in dict(loads):  # brings the adapters in, and warms up
                generator.run(replace(_load(session.model, who, MANY, number), output_tokens=8))
            for who, streams in loads:
                one = _load(session.model, who, streams, 10 + number)
                measured = generator.run(one)
                say(f"{name}: {who}, {streams} streams: {measured.tokens_per_s:.1f} tokens/s")
                yield Run(name, who, number, one, measured)


def _load(model: Model, who: str, streams: int, seed: int) -> Load:
    asked = {"base": (), "adapter": _ADAPTERS[:1], "mixed": (model.id, *_ADAPTERS)}[who]
    # New prompts for each, though an adapter shares no prefix with another.
    place = ("base", "adapter", "mixed").index(who)
    return Load(
        streams=streams,
        prompts=load.default_prompts(streams),
        seed=1000 * seed + 100 * place + streams,
        models=asked,
    )


def _write_adapters(model: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Adapters of every linear layer, too weak to change what is written: costs, not texts."""
    shapes = linear_shapes(json.loads((model / "config.json").read_text(encoding="utf-8")))
    for seed, name in enumerate(_ADAPTERS):
        yield (
            name,
            write_adapter(
                folder / name, shapes, rank=_RANK, targets=LINEARS, seed=seed, strength=0.1
            ),
        )


def _corral_with(model: Model, folders: dict[str, Path], scratch: Path) -> System:
    """Corral with the same registry entry and its adapters."""
    shipped = yaml.safe_load(model.registry.read_text(encoding="utf-8"))["models"]
    (base,) = [entry for entry in shipped if entry["id"] == model.id]
    entries = [
        {"id": name, "base": model.id, "adapter": {"directory": str(folder)}}
        for name, folder in folders.items()
    ]
    registry = scratch / "with_adapters.yaml"
    registry.write_text(yaml.safe_dump({"models": [base, *entries]}), encoding="utf-8")
    return corral(replace(model, registry=registry))


def _vllm_with(model: Model, folders: dict[str, Path], further: str) -> System:
    """vLLM's own server with the same adapters, and the slot more that its CPU products need."""
    names = " ".join(f"{name}={shlex.quote(str(folder))}" for name, folder in folders.items())
    slots = len(folders) + 1
    return vllm(
        model,
        f"{further} --enable-lora --max-loras {slots} --max-lora-rank {_RANK} "
        f"--lora-modules {names}",
    )


def _note(rounds: int) -> str:
    return (
        f"Two adapters of rank {_RANK} on every linear layer. Mixed: base and both adapters in "
        f"turn, in one batch. Random prompts of {load.INPUT_TOKENS} tokens, {load.OUTPUT_TOKENS} "
        f"tokens of answer, prefill included; {rounds} round(s), the servers in turn and never at "
        "the same time; values are medians over the rounds, the ratio is the median of the rounds' "
        "ratios. vLLM's server has a slot more than adapters: rows without one get that of the "
        "last slot there."
    )
