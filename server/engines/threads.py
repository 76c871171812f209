"""How many OpenMP threads an engine step uses while others want the cores too.

OpenMP threads meet at a barrier after every matrix product and spin until the last one arrives.
When another process holds a core, two of them end up sharing one: the first burns its time slice
waiting for the second, hundreds of times a token, and throughput falls to a tenth and less. One
thread on one core is then far quicker than two threads on one and a half. So: use every core,
notice what other processes take of them, step down, and step up again when they have let go.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

# Seconds between two looks at the kernel's figures; a look costs about 0.1 ms, a tick is 10 ms.
_LOOK_EVERY_S = 0.2
# Weight of the newest look in the running mean: a burst of the server's own work (many prompts to
# tokenise) must not cost a core, a process that stays must be noticed within half a second.
_NEWEST = 0.5
# Others' cores' worth of work that takes a thread away, and below which it is given back. Serving
# 32 streams takes the server and its clients up to 0.25 of a core.
_TAKEN = 0.4
_FREE = 0.3
# Idle cores that make contention impossible, whatever others do (a large host).
_ROOM = 0.5


class ThreadGovernor:
    """Chooses the thread count before each step.

    Args:
        most: Threads to use on a quiet machine.
        set_threads: Applies a count to the calling thread (``torch.set_num_threads``).
        stat: The kernel's CPU time figures.
        clock: Seconds, monotonic.
        own_cpu: CPU seconds this process has used, all threads.
    """

    def __init__(
        self,
        most: int,
        set_threads: Callable[[int], None],
        *,
        stat: Path = Path("/proc/stat"),
        clock: Callable[[], float] = time.monotonic,
        own_cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._most = self.threads = most
        self._set_threads = set_threads
        self._stat = stat
        self._clock = clock
        self._own_cpu = own_cpu
        self._cores = frozenset(f"cpu{cpu}" for cpu in os.sched_getaffinity(0))
        self._tick = 1 / os.sysconf("SC_CLK_TCK")
        self._others = 0.0
        self._seen = (clock(), own_cpu(), *self._busy_and_idle())
        set_threads(most)

    def before_step(self) -> None:
        """Adjust the thread count if it is time to look."""
        if self._most == 1 or self._clock() - self._seen[0] < _LOOK_EVERY_S:
            return
        before, now = self._seen, (self._clock(), self._own_cpu(), *self._busy_and_idle())
        self._seen = now
        elapsed, own, busy, idle = (after - old for after, old in zip(now, before, strict=True))
        others = max(0.0, busy - own) / elapsed if idle / elapsed < _ROOM else 0.0
        self._others += _NEWEST * (others - self._others)
        wanted = self._most - math.ceil(self._others - _TAKEN)
        # Between the two thresholds nothing changes, so that the count does not flutter.
        if wanted > self.threads:
            wanted = self._most - math.ceil(self._others - _FREE)
        wanted = max(1, min(wanted, self._most))
        if wanted != self.threads:
            self.threads = wanted
            self._set_threads(wanted)

    def _busy_and_idle(self) -> tuple[float, float]:
        """Busy and idle seconds of the cores this process may use, since boot."""
        busy = idle = 0
        try:
            lines = self._stat.read_text().splitlines()
        except OSError:  # a sandbox without the figures: nobody is seen, every core is used
            return 0.0, 0.0
        for line in lines:
            name, *fields = line.split() or [""]
            if name in self._cores:
                user, nice, system, idling, waiting = map(int, fields[:5])
                busy += user + nice + system
                idle += idling + waiting
        return busy * self._tick, idle * self._tick
