"""Which engines of a registry fit this machine, and which fit together; nothing is started.

The same sums as the server's own: `plan_engine` for what each takes, `Ledger` for what fits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from server.commands.inventory import Stock
from server.commands.listen import PortOwner
from server.engines.choices import EnginePlan
from server.engines.hardware import Hardware
from server.engines.ledger import RAM, Fits, Holding, Ledger, NeverFits, Verdict
from server.engines.measured import FOLDER, Measured
from server.engines.memory import Meter, budgets
from server.engines.plan import plan_engine
from server.errors import CorralError
from server.generation.loading import engine_spec
from server.generation.weights import ModelFiles
from server.prompts.tokenizer import PromptTokenizer
from server.registry.schema import ModelEntry, Registry
from server.registry.sources import ModelStore

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Prospect:
    """One engine, as it would be.

    Args:
        models: Ids of the entries that it serves; the first names it.
        replica: Which of several engines for the same models, from 1.
        pinned: Whether it is never unloaded for another one.
        at_start: Whether one of them is to be loaded when the server starts.
        here: Whether its files are on this machine.
        plan: How it would run; None where that is unknown or impossible.
        problem: Why it is impossible, or "".
        alone: What the ledger says of it on an empty machine.
        verdict: What it says when all have been loaded that are loaded at the start.
    """

    models: tuple[str, ...]
    at_start: bool
    replica: int = 1
    pinned: bool = False
    here: bool = True
    plan: EnginePlan | None = None
    problem: str = ""
    alone: Verdict | None = None
    verdict: Verdict | None = None

    @property
    def name(self) -> str:
        """The model by which it goes in logs and errors, and its number from the second on."""
        return self.models[0] if self.replica == 1 else f"{self.models[0]}#{self.replica}"

    @property
    def runs(self) -> bool:
        """Whether there is room for it where no other engine is."""
        return self.alone is not None and not isinstance(self.alone, NeverFits)


def lacking(verdict: NeverFits) -> str:
    """By how much an engine does not fit: ``1,234 MiB``, ``2 GPUs``."""
    missing = verdict.devices_missing
    if missing:
        return f"{missing} GPU{'s' if missing > 1 else ''}"
    return f"{-(-verdict.short // _MIB):,} MiB"


@dataclass(frozen=True, slots=True)
class Forecast:
    """All engines of a registry on this machine.

    Args:
        budgets: Device → bytes that all of them together may hold.
        said: Device → bytes that somebody set, of devices that are there.
        absent: Devices that somebody set a budget for and that are not there.
        engines: The engines, in the registry's order.
        started: Name → what it holds, of engines that are loaded when the server starts.
        together: Whether all that can be loaded at all can be loaded at once.
    """

    budgets: Mapping[str, int]
    said: Mapping[str, int]
    absent: Sequence[str]
    engines: Sequence[Prospect]
    started: Mapping[str, Holding]
    together: bool

    @property
    def left_out(self) -> list[Prospect]:
        """Engines that are to be loaded at the start and find no room beside the others."""
        return [
            engine
            for engine in self.engines
            if engine.at_start and engine.runs and engine.name not in self.started
        ]


def forecast(
    registry: Registry,
    stocks: Sequence[Stock],
    hardware: Hardware,
    store: ModelStore,
    owner: PortOwner | None = None,
) -> Forecast:
    """Look ahead.

    Args:
        stocks: What is known of each model's files.
        hardware: The machine as it is now.
        store: Its cache remembers what engines took.
        owner: Who has the server's port. Where it is a Corral, what that and its engines hold
            counts as free: this is about a server in its place.
    """
    said = registry.herd.memory
    found = budgets(hardware, said, held=_held_by(owner, hardware))
    known = Measured(store.cache_dir / FOLDER)
    by_id = {stock.entry.id: stock for stock in stocks}
    engines = [
        engine
        for entries in registry.engine_groups().values()
        for engine in _replicas(
            _prospect(entries, by_id[entries[0].id], hardware, found, known), entries
        )
    ]
    ledger = _together([engine for engine in engines if engine.at_start], found)
    named = said if isinstance(said, dict) else {}
    return Forecast(
        budgets=found,
        said={
            device: size
            for device, size in found.items()
            if device in named or (isinstance(said, int) and (device != RAM or len(found) == 1))
        },
        absent=[device for device in named if device not in found],
        engines=[_judged(engine, ledger, _stay(engine, engines)) for engine in engines],
        started=dict(ledger.holdings),
        together=len(_together(engines, found).holdings) == sum(engine.runs for engine in engines),
    )


def _held_by(owner: PortOwner | None, hardware: Hardware) -> Holding:
    if owner is None or owner.corral is None or owner.pid is None:
        return {}
    meter = Meter()
    devices = [f"gpu{number}" for number in range(len(hardware.gpus))]
    held = {device: meter.used_on(device, [owner.pid]) or 0 for device in devices}
    return {RAM: meter.used([owner.pid])} | held


def _replicas(prospect: Prospect, entries: Sequence[ModelEntry]) -> list[Prospect]:
    count = entries[0].engine.replicas
    return [replace(prospect, replica=number) for number in range(1, count + 1)]


def _prospect(
    entries: list[ModelEntry],
    stock: Stock,
    hardware: Hardware,
    found: Mapping[str, int],
    known: Measured,
) -> Prospect:
    prospect = Prospect(
        models=tuple(entry.id for entry in entries),
        at_start=any(entry.load == "startup" for entry in entries),
        pinned=any(entry.pin for entry in entries),
        here=stock.path is not None,
        problem=stock.problem,
    )
    if stock.path is None or stock.info is None:
        return prospect
    try:
        tokenizer = PromptTokenizer.from_directory(stock.path)
        spec = engine_spec(entries, ModelFiles(stock.path, stock.info, tokenizer))
        plan = plan_engine(spec, hardware, budget=found, known=known)
    except CorralError as error:
        return replace(prospect, problem=str(error))
    alone = Ledger(found).place(prospect.name, plan.need, {})
    return replace(prospect, plan=plan, alone=alone)


def _together(engines: Iterable[Prospect], found: Mapping[str, int]) -> Ledger:
    """What is held when each has been loaded in turn that finds room."""
    ledger = Ledger(found)
    for engine in engines:
        if engine.plan is None:
            continue
        verdict = ledger.place(engine.name, engine.plan.need, {})
        if isinstance(verdict, Fits):
            ledger.hold(engine.name, engine.plan.need.on(verdict.devices))
    return ledger


def _stay(engine: Prospect, engines: Iterable[Prospect]) -> set[str]:
    """Names of those that are not unloaded for ``engine``: pinned ones and other replicas."""
    return {other.name for other in engines if other.pinned or other.models == engine.models}


def _devices(held: Holding) -> tuple[str, ...]:
    """What an engine runs on; beside GPUs it holds RAM that is none of them."""
    return tuple(device for device in held if device != RAM) or tuple(held)


def _judged(engine: Prospect, ledger: Ledger, stay: Collection[str]) -> Prospect:
    """With what the ledger says of it beside those that are loaded; fewest bytes have to go."""
    if engine.plan is None:
        return engine
    if (held := ledger.holdings.get(engine.name)) is not None:
        return replace(engine, verdict=Fits(_devices(held)))
    costs = {
        name: float(sum(held.values()))
        for name, held in ledger.holdings.items()
        if name not in stay
    }
    return replace(engine, verdict=ledger.place(engine.name, engine.plan.need, costs))
