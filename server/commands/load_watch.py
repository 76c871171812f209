"""Tells the terminal what the engines are doing: loading, ready, failed, gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rich.text import Text

from server.console import StageLine, err
from server.engines.replicas import Replicas
from server.engines.states import SlotState
from server.generation.herd import Herd

_LOOK_EVERY_S = 0.1
_REST_S = 0.5
# Bringing files has bars of its own; what is seen besides is the reading of what is there.
_IN_OTHER_WORDS = {"starting": "waiting its turn", "fetching the model's files": "reading files"}


class LoadWatch:
    """Watches a herd's engines by looking at their states.

    Args:
        herd: The models; which there are may change.
        started: ``time.monotonic()`` when the program began.
        stopping: Whether the server has been told to end.
    """

    def __init__(self, herd: Herd, started: float, stopping: Callable[[], bool]) -> None:
        self._herd = herd
        self._started = started
        self._stopping = stopping
        self._lines: dict[Replicas, StageLine] = {}
        self._seen: dict[Replicas, SlotState] = {}
        at_start = {m.engines for m in herd.models() if m.entry.load == "startup"}
        # A first load counts from the program's start, so that imports are in it.
        self._began = dict.fromkeys(at_start, started)
        self._starting = set(at_start)
        self._several = len(at_start) > 1

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while not self._stopping():
                self.look(time.monotonic())
                busy = any(state.status == "loading" for state in self._seen.values())
                await asyncio.sleep(_LOOK_EVERY_S if busy else _REST_S)
        finally:
            for line in self._lines.values():
                line.end()

    def look(self, now: float) -> None:
        """Say what has changed since the last look."""
        for engines in self._herd.engines():
            state, before = engines.state, self._seen.get(engines)
            self._seen[engines] = state
            line = self._lines.setdefault(engines, StageLine(engines.name))
            if state.status == "loading":
                self._began.setdefault(engines, now)
                line.show(_doing(state.detail), now)
            elif before is None or (before.status, before.since) != (state.status, state.since):
                line.end()
                self._changed(engines, state, before, now)
        for gone in self._seen.keys() - set(self._herd.engines()):
            self._lines.pop(gone).end()
            del self._seen[gone]

    def _changed(
        self, engines: Replicas, state: SlotState, before: SlotState | None, now: float
    ) -> None:
        name, detail = engines.name, state.detail
        match state.status:
            case "ready" if before is not None and before.status == "draining":
                _say(name, "stays after all", "green")
            case "ready":
                seconds = now - self._began.pop(engines, now)
                others = [model.entry.id for model in self._herd.models_of(engines)[1:]]
                shared = f" (with {', '.join(others)})" if others else ""
                _say(f"{name}{shared}", f"ready after {seconds:.1f} s", "green")
                self._all_ready(now)
            case "failed":
                self._began.pop(engines, None)
                self._several = False
                _say(name, f"failed: {detail}", "red")
            case "restarting":
                _say(name, f"{detail} It is loaded again.", "yellow")
            case "sleeping" | "draining":
                _say(name, f"{state.status} ({detail})", "yellow")
            case "unloaded" if before is not None and before.status == "unloading":
                _say(name, detail or "unloaded", "yellow")
            case "unloaded" if detail:  # it could not be preloaded
                self._began.pop(engines, None)
                self._several = False
                _say(name, detail, "yellow")

    def _all_ready(self, now: float) -> None:
        if self._starting and all(self._is_ready(engines) for engines in self._starting):
            self._starting.clear()
            if self._several:
                _say("All models", f"ready after {now - self._started:.1f} s", "green")

    def _is_ready(self, engines: Replicas) -> bool:
        state = self._seen.get(engines)
        return state is not None and state.status == "ready"


def _doing(detail: str) -> str:
    return _IN_OTHER_WORDS.get(detail, detail)


def _say(name: str, what: str, style: str) -> None:
    err.print(Text.assemble((name, "bold"), ": ", (what, style)), soft_wrap=True)
