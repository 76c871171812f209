"""Where a worker's threads run, and how many an engine step uses while others want the cores too.

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
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

# Seconds between two looks at the kernel's figures; a look costs about 0.1 ms, a tick is 10 ms.
_LOOK_EVERY_S = 0.2
# Weight of the newest look in the running mean: a burst of the server's own work (many prompts to
# tokenise) must not cost a core, a process that stays must be noticed within half a second.
_NEWEST = 0.5
# Others' cores' worth of work that takes a thread away, and below which it is given back. Serving
# 32 streams takes the server and its clients up to 0.25 of a core.
_TAKEN = 0.4
_FREE = 0.3


def bind(cpus: Sequence[Sequence[int]], worker: int) -> None:
    """Keep this thread, and those it starts from now on, on a worker's CPUs.

    Args:
        cpus: The CPUs of each worker; empty leaves everything to the scheduler.
        worker: The worker's number on this machine.
    """
    if cpus:
        os.sched_setaffinity(0, cpus[worker])


def cpu_of_workers() -> Callable[[], float]:
    """Reads the CPU seconds that this worker and those beside it have used.

    vLLM makes them from one process, which has no other children that compute.
    """
    engine = psutil.Process().parent()
    workers = engine.children() if engine is not None else [psutil.Process()]

    def used() -> float:
        seconds = 0.0
        for worker in workers:
            try:
                times = worker.cpu_times()
            except psutil.Error:  # it has ended, and the engine ends with it
                continue
            seconds += times.user + times.system
        return seconds

    return used


class ThreadGovernor:
    """Chooses the thread count before each step.

    Args:
        most: Threads to use on a quiet machine.
        set_threads: Applies a count to the calling thread (``torch.set_num_threads``).
        sharing: Workers of this engine on the same CPUs, each with a governor of its own.
        stat: The kernel's CPU time figures.
        clock: Seconds, monotonic.
        own_cpu: CPU seconds that those workers have used, all threads.
    """

    def __init__(
        self,
        most: int,
        set_threads: Callable[[int], None],
        *,
        sharing: int = 1,
        stat: Path = Path("/proc/stat"),
        clock: Callable[[], float] = time.monotonic,
        own_cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._most = self.threads = most
        self._set_threads = set_threads
        self._sharing = sharing
        self._stat = stat
        self._clock = clock
        self._own_cpu = own_cpu
        self._cores = frozenset(f"cpu{cpu}" for cpu in os.sched_getaffinity(0))
        self._tick = 1 / os.sysconf("SC_CLK_TCK")
        self._others = 0.0
        self._seen = (clock(), own_cpu(), self._busy())
        set_threads(most)

    def before_step(self) -> None:
        """Adjust the thread count if it is time to look."""
        if self._most == 1 or self._clock() - self._seen[0] < _LOOK_EVERY_S:
            return
        before, self._seen = self._seen, (self._clock(), self._own_cpu(), self._busy())
        elapsed, own, busy = (now - old for now, old in zip(self._seen, before, strict=True))
        self._others += _NEWEST * (max(0.0, busy - own) / elapsed - self._others)
        wanted = self._wanted(_TAKEN)
        # Between the two thresholds nothing changes, so that the count does not flutter.
        if wanted > self.threads:
            wanted = self._wanted(_FREE)
        if wanted != self.threads:
            self.threads = wanted
            self._set_threads(wanted)

    def _wanted(self, taken: float) -> int:
        """Threads for the logical CPUs that others leave.

        There may be more of those than threads (hyper-threads, a quota, a count from the registry):
        others are in the way only once they take what is left over as well.
        """
        free = len(self._cores) - math.ceil(self._others - taken)
        return max(1, min(self._most, free // self._sharing))

    def _busy(self) -> float:
        """Busy seconds of the CPUs this worker may use, since boot, summed."""
        busy = 0
        try:
            lines = self._stat.read_text().splitlines()
        except OSError:  # a sandbox without the figures: nobody is seen, every core is used
            return 0.0
        for line in lines:
            name, *fields = line.split() or [""]
            if name in self._cores:
                user, nice, system = map(int, fields[:3])
                busy += user + nice + system
        return busy * self._tick
