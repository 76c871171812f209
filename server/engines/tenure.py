"""One engine's life in a slot, from ready to gone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from server.engines.base import Engine

# Tokens per second are counted over so many seconds.
_RATE_WINDOW_S = 10


@dataclass(eq=False, slots=True)
class Tenure:
    """One engine's life in a slot.

    Args:
        engine: The engine.
        devices: Where it is.
        loaded_at: Clock time at which it became ready.
        used_at: Clock time at which the last request ended.
        running: Requests that hold it.
        evicted: It was taken away from requests that still ran.
        asleep: It sleeps.
        samples: Clock time and tokens generated, about once a second.
    """

    engine: Engine
    devices: tuple[str, ...]
    loaded_at: float
    used_at: float
    running: int = 0
    evicted: bool = False
    asleep: bool = False
    samples: deque[tuple[float, int]] = field(
        default_factory=lambda: deque(maxlen=_RATE_WINDOW_S + 1)
    )

    def idle(self, now: float) -> float:
        """Seconds for which nobody has held it."""
        return 0.0 if self.running else now - self.used_at

    @property
    def tokens_per_second(self) -> float:
        """Tokens generated a second, over the last seconds."""
        if len(self.samples) < 2:
            return 0.0
        (began, before), (ended, after) = self.samples[0], self.samples[-1]
        return (after - before) / (ended - began) if ended > began else 0.0
