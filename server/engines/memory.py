"""Budgets of this machine's devices, and what engines really hold of them.

What an engine holds of the RAM is its proportional share (PSS): engines that were forked from the
prepared process share 100 to 200 MB of its pages, and these must not be counted once for each. The
kernel walks all pages to tell it, 40 ms a GiB, so it is asked for now and then; in between the
resident size, which costs nothing, less what was shared then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from server.engines import cgroup, gpus
from server.engines.hardware import Hardware
from server.engines.ledger import RAM, Holding

MIB = 1 << 20
# What the server's own processes come to hold besides engines: itself, the one that engines are
# forked from, and a helper that looks at a model's class for a moment.
SERVER_BYTES = 1280 * MIB
# Part of the RAM that is left to other programs, whose sizes change.
OTHERS = 0.05
_PROC = Path("/proc")
_PAGE = 4096
_POLL_S = 0.2
# Asking for the exact share takes no more of the time than this part, and is done no more often.
_SHARE_OF_TIME = 0.02
_LEAST_PAUSE_S = 2.0
# Figures of a GPU that are so old will do.
_GPU_AGE_S = 0.5


def budgets(
    hardware: Hardware,
    said: int | Mapping[str, int] | None = None,
    held: Holding | None = None,
    server: int = 0,
) -> dict[str, int]:
    """Bytes that all engines together may hold of each device.

    Of the RAM: what can be taken now, and what our engines hold already, less a reserve for the
    server (`SERVER_BYTES`) and others (`OTHERS`). Of a GPU: what is free, and what our engines
    hold.

    Args:
        hardware: The machine as it is now.
        said: What somebody set: for each GPU (for the RAM where there is none), or by device.
            Devices that are not there are left out.
        held: Device → bytes that engines of this server hold.
        server: Bytes that the server's own processes hold already.
    """
    held = held or {}
    reserve = int(OTHERS * hardware.memory_total) + max(0, SERVER_BYTES - server)
    found = {RAM: hardware.memory_available + held.get(RAM, 0) - reserve}
    for number, gpu in enumerate(hardware.gpus):
        device = f"gpu{number}"
        free = gpu.memory_free + held.get(device, 0) - (reserve if gpu.unified else 0)
        found[device] = min(gpu.memory_total, free)
    if isinstance(said, int):
        said = {device: said for device in found if device != RAM} or {RAM: said}
    return {device: max(0, (said or {}).get(device, size)) for device, size in found.items()}


@dataclass(slots=True)
class _Share:
    """What a process shares with others, as it was last looked at."""

    shared: int
    again_at: float


class Meter:
    """Measures what processes hold and what devices have left; cheap enough for every second.

    The figures of GPUs come from ``nvidia-smi``, which takes a while: ask for them in a thread.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shares: dict[int, _Share] = {}
        self._gpus: tuple[float, tuple[gpus.Gpu, ...]] | None = None

    def used(self, pids: Iterable[int], *, exact: bool = False) -> int:
        """Bytes of RAM that these processes and those below them hold; ended ones hold none.

        Args:
            exact: Ask how much of it is shared now, whatever that costs.
        """
        return sum(self._held(pid, exact=exact) for pid in processes(pids))

    def used_on(self, device: str, pids: Iterable[int]) -> int | None:
        """Bytes of a GPU that these processes and those below them hold; None if that cannot be
        told: in a container the driver may not say, or say other process ids."""
        gpu = self._gpu(device)
        if gpu is None:
            return None
        family = {*processes(pids)}
        sizes = [size for pid, size in gpus.users(gpu) if pid in family]
        return sum(sizes) if sizes else None

    def free(self, device: str) -> int:
        """Bytes that can be taken of a device now; 0 for one that is not there."""
        if device == RAM:
            return min(psutil.virtual_memory().available, cgroup.limits().memory_left)
        gpu = self._gpu(device)
        return 0 if gpu is None else gpu.memory_free

    def _held(self, pid: int, *, exact: bool) -> int:
        resident = _resident(pid)
        if not resident:
            self._shares.pop(pid, None)
            return 0
        now = self._clock()
        share = self._shares.get(pid)
        if exact or share is None or now >= share.again_at:
            proportional = _proportional(pid)
            pause = max(_LEAST_PAUSE_S, (self._clock() - now) / _SHARE_OF_TIME)
            # It may have grown meanwhile.
            resident = _resident(pid)
            share = self._shares[pid] = _Share(max(0, resident - proportional), now + pause)
        return max(0, resident - share.shared)

    def _gpu(self, device: str) -> gpus.Gpu | None:
        now = self._clock()
        if self._gpus is None or now - self._gpus[0] > _GPU_AGE_S:
            memory = psutil.virtual_memory()
            self._gpus = now, gpus.find(memory.total, self.free(RAM)).gpus
        number = int(device.removeprefix("gpu"))
        return self._gpus[1][number] if number < len(self._gpus[1]) else None


async def returned(
    meter: Meter, device: str, expected: int, before: int, *, patience_s: float = 5.0
) -> int:
    """Wait until an unloaded engine's bytes have come back; how many have not.

    Args:
        expected: Bytes that were to come back.
        before: Bytes free on the device before the unload.
        patience_s: Longest wait.
    """

    async def missing() -> int:
        return expected - (await asyncio.to_thread(meter.free, device) - before)

    return await least(missing, patience_s)


async def least(missing: Callable[[], Awaitable[int]], patience_s: float) -> int:
    """The least that was missing while there was patience, at once when nothing is."""
    deadline = time.monotonic() + patience_s
    found = max(0, await missing())
    while found and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
        found = min(found, max(0, await missing()))
    return found


def processes(pids: Iterable[int]) -> list[int]:
    """These and every process below them, each once; what has ended is left out or without any."""
    found: list[int] = []
    waiting = [*pids]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.append(pid)
            waiting += _children(pid)
    return found


def _children(pid: int) -> Iterator[int]:
    for path in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            yield from map(int, path.read_text().split())
        except OSError:  # a thread that has ended
            continue


def _resident(pid: int) -> int:
    """Resident bytes, shared ones included; 0 once it has ended."""
    try:
        return int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Its own pages, and its share of those that it has together with others."""
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:  # ended, or a kernel without the file
        return _resident(pid)
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return _resident(pid)
