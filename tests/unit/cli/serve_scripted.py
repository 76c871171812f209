"""`corral` with an engine that answers from a script; run by test_serve.py in a process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from server import cli, serve
from server.engines.base import Delta, Engine
from server.engines.ledger import RAM, Ledger, Need
from server.engines.scripted import ScriptedEngine
from server.engines.spec import EngineSpec
from server.engines.states import Report


def load_forever(log_dir: Path) -> None:
    """As a load in a thread that nothing can cancel, with a process of its own below it."""
    helper = subprocess.Popen(["sleep", "600"])
    (log_dir / "helper.pid").write_text(str(helper.pid))
    time.sleep(600)


class Maker:
    """Engines that say "Hello" after SCRIPT_DELAY seconds, loaded as SCRIPT_LOAD says."""

    def __init__(self, ledger: Ledger, log_dir: Path, *_: object) -> None:
        self.log_dir = log_dir
        # Now is when the fork server would be started, with this environment.
        (log_dir / "environment").write_text("\n".join(os.environ))

    def budgets(self, said: object) -> dict[str, int]:
        return {RAM: 1 << 40}

    async def need(self, spec: EngineSpec) -> Need:
        return Need(weights=1, kv_cache=1)

    async def make(self, spec: EngineSpec, devices: tuple[str, ...], report: Report) -> Engine:
        report("loading the model")
        how = os.environ.get("SCRIPT_LOAD", "")
        if how == "forever":
            await asyncio.to_thread(load_forever, self.log_dir)
        delay = float(os.environ.get("SCRIPT_DELAY", "0"))
        engine = ScriptedEngine(
            lambda _: [Delta(0, "Hel", [5]), delay, Delta(0, "lo", [6], finish_reason="stop")]
        )
        await engine.start()
        return engine


serve._machine = Maker
cli.main()
