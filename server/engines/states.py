"""What a slot is told, and what is told of it; plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from server.engines.base import Engine
from server.engines.ledger import Need

Status = Literal[
    "unloaded", "loading", "ready", "draining", "unloading", "sleeping", "restarting", "failed"
]
# Told by a loader what it is doing now, in a few words.
Report = Callable[[str], None]
Clock = Callable[[], float]


class EngineLoader(Protocol):
    """Brings an engine."""

    async def need(self, report: Report) -> Need:
        """Fetch what is needed to know it, and say what memory the engine takes.

        Raises:
            CorralError: The engine cannot be had; the message says why.
        """

    async def load(self, devices: tuple[str, ...], report: Report) -> Engine:
        """A started engine on these devices.

        Raises:
            CorralError: It did not start; the message says why.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOptions:
    """How an engine is kept.

    Args:
        pinned: Never evicted or unloaded by itself.
        idle_timeout: Seconds without a request after which it is unloaded; None: never.
        sleep_after: Seconds without a request after which it sleeps (GPU only); None: never.
        sleep_level: 1 keeps the weights in RAM, 2 keeps nothing.
    """

    pinned: bool = False
    idle_timeout: float | None = None
    sleep_after: float | None = None
    sleep_level: Literal[1, 2] = 1


@dataclass(frozen=True, slots=True)
class SlotState:
    """What is known of a slot now.

    Args:
        detail: What is being done, or why it failed.
        since: Unix time at which ``status`` was entered.
        requests: Requests that hold the engine now.
        waiting: Requests that wait for it.
    """

    status: Status
    detail: str
    since: float
    requests: int
    waiting: int = 0


class SlotRetired(Exception):
    """The slot is no longer the model's: whoever waits must look the model up again."""
