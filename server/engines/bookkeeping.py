"""Holds what the ledger says of loaded engines against what they really hold."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import psutil

from server.engines.base import Engine
from server.engines.ledger import RAM, Holding, Need
from server.engines.measured import Measured
from server.engines.memory import Meter, least, processes, returned


class Loaded(Protocol):
    """An engine that is loaded, and where."""

    @property
    def engine(self) -> Engine:
        """The engine."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that it was loaded on."""


@dataclass(frozen=True, slots=True)
class Parting:
    """What is known of an engine that is about to be stopped.

    Args:
        family: Its processes.
        gpus: GPU → what it held there, and what was free.
    """

    family: Collection[psutil.Process]
    gpus: Mapping[str, tuple[int, int]]


class MeasuredMemory:
    """Measures engines when they have been loaded and when they end.

    Args:
        meter: Measures.
        measured: Remembers it for the next plan.
        patience_s: How long bytes may take to come back.
    """

    def __init__(self, meter: Meter, measured: Measured, *, patience_s: float = 5.0) -> None:
        self._patience_s = patience_s
        self._meter = meter
        self._measured = measured
        self._needs: WeakKeyDictionary[Engine, Need] = WeakKeyDictionary()

    async def resident(self, loaded: Loaded, need: Need) -> Holding:
        """What an engine that has just been loaded is to be counted with, device by device: what it
        holds, and what a full step takes besides."""
        self._needs[loaded.engine] = need
        used = await asyncio.to_thread(self._used, loaded)
        if not used:
            return need.on(loaded.devices)
        rest = self._measured.note(need, max(used.values()), ready=True)
        most = 0 if rest is None else need.resident - need.overhead + rest.most
        held = {
            device: max(used.get(device, need.resident) + need.headroom, most)
            for device in loaded.devices
        }
        if need.host:
            held[RAM] = await asyncio.to_thread(self._meter.used, loaded.engine.pids, exact=True)
        return held

    async def stopping(self, loaded: Loaded) -> Parting:
        """Called before an engine is stopped; what it returns is handed to `missing`."""
        return await asyncio.to_thread(self._parting, loaded)

    async def missing(self, parting: Parting) -> int:
        """Bytes that an engine did not give back, once it has been stopped.

        Of the RAM, those that its processes still hold: what has ended holds nothing, and whether
        others have taken it meanwhile is not this engine's fault.
        """

        async def held() -> int:
            return await asyncio.to_thread(lambda: self._meter.used(_running(parting.family)))

        found = await least(held, self._patience_s)
        for device, (size, free) in parting.gpus.items():
            found += await returned(self._meter, device, size, free, patience_s=self._patience_s)
        return found

    def _used(self, loaded: Loaded) -> dict[str, int]:
        """Device → bytes, where they can be told."""
        pids = loaded.engine.pids
        if not pids:
            return {}
        if loaded.devices == (RAM,):
            told: dict[str, int | None] = {RAM: self._meter.used(pids, exact=True)}
        else:
            told = {device: self._meter.used_on(device, pids) for device in loaded.devices}
        return {device: size for device, size in told.items() if size}

    def _parting(self, loaded: Loaded) -> Parting:
        used = self._used(loaded)
        need = self._needs.pop(loaded.engine, None)
        if need is not None and used:
            # Its heap has grown to what its largest step took, and does not shrink.
            self._measured.note(need, max(used.values()))
        family = []
        for pid in processes(loaded.engine.pids):
            try:
                family.append(psutil.Process(pid))
            except psutil.NoSuchProcess:
                continue
        on_gpus = {
            device: (size, self._meter.free(device))
            for device, size in used.items()
            if device != RAM
        }
        return Parting(family, on_gpus)


def _running(family: Collection[psutil.Process]) -> list[int]:
    """Process ids of those that have not ended; a zombie has."""
    found = []
    for process in family:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found
