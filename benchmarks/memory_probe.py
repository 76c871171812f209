"""Loads an engine twice as the server would, and samples what it holds; run by `memory`.

Usage: python -m benchmarks.memory_probe REGISTRY MODEL CACHE_DIR MEASURED_DIR STREAMS
Prints one JSON line: a list of lives, each with its needs and its samples in bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from benchmarks.sampling import sampled
from server.engines import vllm_process
from server.engines.base import GenerationRequest, SamplingSettings
from server.engines.bookkeeping import MeasuredMemory
from server.engines.hardware import Hardware, probe
from server.engines.ledger import Need
from server.engines.measured import Measured
from server.engines.memory import Meter, budgets
from server.engines.plan import plan_engine
from server.engines.spec import EngineSpec
from server.engines.vllm_engine import VllmEngine
from server.generation.loading import engine_spec
from server.generation.weights import ModelFiles
from server.prompts.tokenizer import PromptTokenizer
from server.registry import ModelStore, NullProgress, describe_model, load_registry

_SAMPLE_S = 0.2
_PROMPT = 500
_ANSWER = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the engine's processes.

    Args:
        phase: ``load``, ``idle``, ``streams`` or ``after``.
        ledger: What the ledger counts for it at this moment.
        pss: Its own pages and its share of shared ones.
        uss: Its own pages.
        rss: Its own and all shared ones.
        meter: What `Meter` says.
    """

    phase: str
    ledger: int
    pss: int
    uss: int
    rss: int
    meter: int


@dataclass(slots=True)
class Life:
    """One engine from its load to its end.

    Args:
        need: What it was thought to need.
        held: What it was counted with once it was loaded.
        missing: Bytes that did not come back.
    """

    need: dict[str, int | str]
    samples: list[Sample] = field(default_factory=list)
    held: int = 0
    missing: int = 0


@dataclass(slots=True)
class _Now:
    phase: str
    ledger: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    engine: VllmEngine
    devices: tuple[str, ...] = ("ram",)


def main(registry: str, model: str, cache_dir: str, measured_dir: str, streams: str) -> None:
    """Both lives, in one process as in a server."""
    spec = _spec(Path(registry), model, Path(cache_dir))
    logs = Path(measured_dir)
    vllm_process.prepare(forkserver=True, log_file=logs / "server.log")
    asyncio.run(_lives(spec, logs, int(streams)))
    sys.stdout.flush()
    # A stopped AsyncLLM complains when the interpreter tidies up around it.
    os._exit(0)


def _spec(registry: Path, model: str, cache_dir: Path) -> EngineSpec:
    loaded = load_registry(registry)
    groups = loaded.engine_groups().values()
    entries = next(group for group in groups if loaded.resolve(model) in group)
    folder = ModelStore(cache_dir).prepare(entries[0].source, NullProgress())
    tokenizer = PromptTokenizer.from_directory(folder)
    return engine_spec(entries, ModelFiles(folder, describe_model(folder), tokenizer))


async def _lives(spec: EngineSpec, logs: Path, streams: int) -> None:
    known = Measured(logs / "measured")
    hardware = await asyncio.to_thread(probe)
    budget = budgets(hardware)
    lives = [await _life(spec, hardware, budget, known, streams) for _ in range(2)]
    sys.stdout.write(json.dumps([asdict(life) for life in lives]) + "\n")


async def _life(
    spec: EngineSpec, hardware: Hardware, budget: dict[str, int], known: Measured, streams: int
) -> Life:
    plan = plan_engine(spec, hardware, budget=budget, known=known)
    life = Life(_figures(plan.need))
    loaded = _Loaded(VllmEngine(spec, plan, log_file=known.folder.parent / "engine.log"))
    books, now = MeasuredMemory(Meter(), known), _Now("load", plan.need.peak)
    meter = Meter()

    def look() -> None:
        found = _sample(loaded.engine.pids, meter, now.phase, now.ledger)
        if found is not None:
            life.samples.append(found)

    with sampled(look, _SAMPLE_S):
        await loaded.engine.start()
        held = await books.resident(loaded, plan.need)
        life.held = now.ledger = held["ram"]
        now.phase = "idle"
        await asyncio.sleep(2)
        now.phase = "streams"
        await asyncio.gather(*(_answer(loaded.engine, number) for number in range(streams)))
        now.phase = "after"
        await asyncio.sleep(1)
    parting = await books.stopping(loaded)
    await loaded.engine.stop()
    life.missing = await books.missing(parting)
    return life


def _figures(need: Need) -> dict[str, int | str]:
    return asdict(need) | {"resident": need.resident, "peak": need.peak}


async def _answer(engine: VllmEngine, number: int) -> None:
    # Prompts that have no beginning in common.
    prompt = [(7919 * (number + 1) * (place + 3)) % 40_000 + 100 for place in range(_PROMPT)]
    sampling = SamplingSettings(max_tokens=_ANSWER, ignore_eos=True)
    request = GenerationRequest(
        request_id=f"stream-{number}", prompt_token_ids=prompt, sampling=sampling
    )
    async for _ in engine.generate(request):
        pass


def _sample(pids: tuple[int, ...], meter: Meter, phase: str, ledger: int) -> Sample | None:
    if not pids:
        return None
    try:
        found = [psutil.Process(pid).memory_full_info() for pid in pids]
    except psutil.Error:
        return None
    return Sample(
        phase,
        ledger,
        pss=sum(memory.pss for memory in found),
        uss=sum(memory.uss for memory in found),
        rss=sum(memory.rss for memory in found),
        meter=meter.used(pids),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
