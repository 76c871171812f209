"""Budgets of this machine's devices, and what engines really hold of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from server.engines.hardware import Hardware, probe
from server.engines.ledger import RAM

MIB = 1 << 20
# Left to the server's own processes and to others: their sizes change.
RESERVE = 1024 * MIB
_PROC = Path("/proc")
_POLL_S = 0.2


def budgets(
    hardware: Hardware, said: Mapping[str, int] | None = None, held: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Bytes that all engines together may hold of each device.

    Args:
        hardware: The machine as it is now.
        said: Device → bytes that somebody set.
        held: Device → bytes that engines of this server hold already.
    """
    said, held = said or {}, held or {}
    found = {RAM: hardware.memory_available + held.get(RAM, 0) - RESERVE}
    for number, gpu in enumerate(hardware.gpus):
        device = f"gpu{number}"
        found[device] = min(gpu.memory_total, gpu.memory_free + held.get(device, 0))
    return {device: max(0, said.get(device, size)) for device, size in found.items()}


class Meter:
    """Measures what processes hold and what devices have left."""

    def __init__(self, look: Callable[[], Hardware] = probe) -> None:
        self._look = look

    def used(self, pids: Iterable[int]) -> int:
        """Bytes of RAM that these processes hold; those that have ended hold none."""
        return sum(map(_proportional, pids))

    def free(self, device: str) -> int:
        """Bytes that can be taken of a device now; 0 for one that is not there."""
        hardware = self._look()
        if device == RAM:
            return hardware.memory_available
        number = int(device.removeprefix("gpu"))
        return hardware.gpus[number].memory_free if number < len(hardware.gpus) else 0


async def returned(
    meter: Meter, device: str, expected: int, before: int, *, patience_s: float = 5.0
) -> int:
    """Wait until an unloaded engine's bytes have come back; how many have not.

    Args:
        expected: Bytes that were to come back.
        before: Bytes free on the device before the unload.
        patience_s: Longest wait.
    """
    deadline = time.monotonic() + patience_s
    while True:
        missing = expected - (await asyncio.to_thread(meter.free, device) - before)
        if missing <= 0 or time.monotonic() >= deadline:
            return max(0, missing)
        await asyncio.sleep(_POLL_S)


def _proportional(pid: int) -> int:
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0
