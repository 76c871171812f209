"""Tells the terminal what the engines are doing: loading, ready, failed, gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rich.text import Text

from server.console import StageLine, err
from server.engines.pool import EngineSlot, SlotState
from server.generation.herd import Herd

_LOOK_EVERY_S = 0.1
_REST_S = 0.5
# Bringing files has bars of its own; what is seen besides is the reading of what is there.
_IN_OTHER_WORDS = {"starting": "waiting its turn", "fetching the model's files": "reading files"}


class LoadWatch:
    """Watches a herd's engines by looking at their states.

    Args:
        herd: The models.
        started: ``time.monotonic()`` when the program began.
        stopping: Whether the server has been told to end.
    """

    def __init__(self, herd: Herd, started: float, stopping: Callable[[], bool]) -> None:
        self._slots: list[EngineSlot] = []
        self._models: dict[str, list[str]] = {}
        self._at_start: set[str] = set()
        for model in herd.models():
            name = model.slot.name
            if name not in self._models:
                self._slots.append(model.slot)
            self._models.setdefault(name, []).append(model.entry.id)
            if model.entry.load == "startup":
                self._at_start.add(name)
        self._lines = {slot.name: StageLine(slot.name) for slot in self._slots}
        self._seen: dict[str, SlotState] = {}
        # A first load counts from the program's start, so that imports are in it.
        self._began = dict.fromkeys(self._at_start, started)
        self._started = started
        self._stopping = stopping
        self._several = len(self._at_start) > 1

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
        for slot in self._slots:
            state, before = slot.state, self._seen.get(slot.name)
            self._seen[slot.name] = state
            if state.status == "loading":
                self._began.setdefault(slot.name, now)
                self._lines[slot.name].show(_doing(state.detail), now)
            elif before is None or (before.status, before.since) != (state.status, state.since):
                self._lines[slot.name].end()
                self._changed(slot.name, state, now)

    def _changed(self, name: str, state: SlotState, now: float) -> None:
        if state.status == "ready":
            others = self._models[name][1:]
            seconds = now - self._began.pop(name, now)
            shared = f" (with {', '.join(others)})" if others else ""
            _say(f"{name}{shared}", f"ready after {seconds:.1f} s", "green")
            self._all_ready(now)
        elif state.status == "failed":
            self._began.pop(name, None)
            self._several = False
            _say(name, f"failed: {state.detail}", "red")
        elif state.detail:  # unloaded because its engine ended
            _say(name, state.detail, "yellow")

    def _all_ready(self, now: float) -> None:
        if not self._at_start:
            return
        if all(self._is_ready(name) for name in self._at_start):
            self._at_start.clear()
            if self._several:
                _say("All models", f"ready after {now - self._started:.1f} s", "green")

    def _is_ready(self, name: str) -> bool:
        state = self._seen.get(name)
        return state is not None and state.status == "ready"


def _doing(detail: str) -> str:
    return _IN_OTHER_WORDS.get(detail, detail)


def _say(name: str, what: str, style: str) -> None:
    err.print(Text.assemble((name, "bold"), ": ", (what, style)), soft_wrap=True)
