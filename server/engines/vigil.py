"""Is an engine still at work? Asked by a real token, because a hung process looks healthy.

An engine that gives out tokens is well. One that is silent is asked for a token of its own; while
the answer is outstanding its processor time is looked at: a stopped or deadlocked process takes
none, a long prefill takes much. So a hang is found within seconds and a slow step is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from server.engines.states import Clock
from server.engines.tenure import Tenure

_LOOK_EVERY_S = 1.0
# Taking less processor time than this share of a second in a second is doing nothing.
_AT_WORK = 0.02


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds an engine is given.

    Args:
        silent: Silence with requests under way after which it is asked.
        idle: How often it is asked when it has nothing to do.
        still: Longest it may leave the question unanswered without taking processor time.
        busy: Longest it may leave it unanswered at all.
        load: Longest that loading may take.
    """

    silent: float = 5.0
    idle: float = 60.0
    still: float = 10.0
    busy: float = 180.0
    load: float = 3600.0


async def until_lost(
    tenure: Tenure,
    patience: Patience,
    *,
    clock: Clock = time.monotonic,
    every: float = _LOOK_EVERY_S,
) -> str:
    """Watch an engine; return why it must be given up, once it must."""
    engine = tenure.engine
    progress, heard = engine.progress, clock()
    tenure.samples.append((heard, progress))
    while True:
        await asyncio.sleep(every)
        now = clock()
        if not engine.alive:
            return "its process ended"
        if engine.progress != progress:
            progress, heard = engine.progress, now
        tenure.samples.append((now, progress))
        if now - heard < (patience.silent if tenure.running else patience.idle):
            continue
        if reason := await _ask(tenure, patience, clock, every):
            return reason
        progress, heard = engine.progress, clock()


async def _ask(tenure: Tenure, patience: Patience, clock: Clock, every: float) -> str:
    """Ask for a token; "" if there was one, or other work got done, else what is wrong."""
    engine = tenure.engine
    progress, began = engine.progress, clock()
    worked, worked_at = engine.cpu_seconds(), began
    question = asyncio.create_task(engine.probe())
    try:
        while not question.done():
            await asyncio.wait([question], timeout=every)
            now = clock()
            if not engine.alive:
                return "its process ended"
            if engine.progress != progress:
                return ""
            tenure.samples.append((now, progress))
            spent = engine.cpu_seconds()
            if spent - worked > _AT_WORK * (now - worked_at):
                worked, worked_at = spent, now
            elif now - worked_at > patience.still and not question.done():
                return f"it hangs: no token and no work for {now - worked_at:.0f} s"
            if now - began > patience.busy and not question.done():
                return f"it hangs: no token for {now - began:.0f} s"
        return await _verdict(question)
    finally:
        question.cancel()
        with contextlib.suppress(BaseException):
            await asyncio.wait([question], timeout=0)


async def _verdict(question: asyncio.Task[None]) -> str:
    error = question.exception()
    return "" if error is None else f"it cannot generate any more: {error}"
