"""Engines on this machine: what they may take, what each needs, and how one is made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from server.engines import vllm_engine
from server.engines.base import Engine
from server.engines.hardware import probe
from server.engines.ledger import RAM, Ledger, Need
from server.engines.log_files import engine_log, previous_log
from server.engines.measured import Measured
from server.engines.memory import Meter, budgets
from server.engines.plan import EnginePlan, check_free, plan_engine
from server.engines.spec import EngineSpec
from server.engines.states import Report


class VllmMachine:
    """Makes vLLM engines, each with a log file of its own.

    Args:
        ledger: What engines may hold, and do.
        log_dir: Receives the log files.
        measured: What engines took that were loaded before.
        meter: Measures the server's own processes.
    """

    def __init__(self, ledger: Ledger, log_dir: Path, measured: Measured, meter: Meter) -> None:
        self._ledger = ledger
        self._log_dir = log_dir
        self._measured = measured
        self._meter = meter

    def budgets(self, said: int | Mapping[str, int] | None) -> Mapping[str, int]:
        """Device → bytes that all engines together may hold, where the registry says ``said``."""
        held: dict[str, int] = {}
        for holding in self._ledger.holdings.values():
            for device, size in holding.items():
                held[device] = held.get(device, 0) + size
        # Engines are among the processes below this one.
        server = max(0, self._meter.used([os.getpid()]) - held.get(RAM, 0))
        return budgets(probe(), said, held, server)

    async def need(self, spec: EngineSpec) -> Need:
        """What memory the engine of a spec takes.

        Raises:
            EngineDied: It cannot run here; the message says why.
        """
        return (await self._plan(spec, None)).need

    async def make(self, spec: EngineSpec, devices: tuple[str, ...], report: Report) -> Engine:
        """A started engine on these devices.

        Raises:
            EngineDied: It did not start; the message says why.
        """
        plan = await self._plan(spec, None if devices == (RAM,) else devices)
        check_free(spec.name, plan)
        log_file = self.log_file(spec.name)
        if log_file.exists():  # what an engine said before it ended is worth keeping
            log_file.replace(previous_log(log_file))
        engine = vllm_engine.VllmEngine(spec, plan, log_file=log_file)
        report("loading the model")
        await engine.start()
        return engine

    def log_file(self, name: str) -> Path:
        """Where the engine of this name logs."""
        return engine_log(self._log_dir, name)

    async def _plan(self, spec: EngineSpec, devices: tuple[str, ...] | None) -> EnginePlan:
        # In a thread: nvidia-smi takes its time.
        return await asyncio.to_thread(
            lambda: plan_engine(
                spec, probe(), budget=self._ledger.budgets, devices=devices, known=self._measured
            )
        )
