"""Which engines fit a machine together, in bytes, known before any of them starts.

The ledger does sums and nothing else: it starts, stops and measures no engine. Devices are names
with a budget: ``ram``, and ``gpu0``, ``gpu1``, … beside it where there are GPUs. What an engine
holds is written down when its load begins, with all that it takes while loading, corrected when it
is ready, and struck out when it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeAlias

RAM = "ram"
# Up to so many engines the cheapest set to evict is found by looking at every set.
_EXACT = 10

Holding: TypeAlias = Mapping[str, int]
"""Device → bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What an engine takes, in bytes on each device that it uses.

    Args:
        weights: The device's share of the weights.
        kv_cache: Its KV cache there.
        adapters: Room for LoRA adapters.
        overhead: Everything else: Python, libraries, activations.
        loading: What it takes besides, only while it loads.
        devices: How many devices share it, each taking this much.
        headroom: The part of ``overhead`` that only the largest steps take.
        host: RAM that its processes take besides, where its devices are GPUs.
        about: Names what is remembered of engines like it (`measured`); "" remembers nothing.
    """

    weights: int
    kv_cache: int
    adapters: int = 0
    overhead: int = 0
    loading: int = 0
    devices: int = 1
    headroom: int = 0
    host: int = 0
    about: str = field(default="", compare=False)

    @property
    def resident(self) -> int:
        """Bytes once it is loaded."""
        return self.weights + self.kv_cache + self.adapters + self.overhead

    @property
    def peak(self) -> int:
        """Bytes while it loads."""
        return self.resident + self.loading

    def on(self, devices: Iterable[str], *, loading: bool = False) -> dict[str, int]:
        """Device → bytes where it is loaded on these, the RAM besides GPUs among them."""
        beside = {RAM: self.host} if self.host else {}
        return beside | dict.fromkeys(devices, self.peak if loading else self.resident)


@dataclass(frozen=True, slots=True)
class Fits:
    """There is room on these devices."""

    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evict:
    """There is room on these devices once these engines are gone."""

    names: tuple[str, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeldBack:
    """It would fit, but engines that may not go hold the room; so many bytes are missing."""

    short: int


@dataclass(frozen=True, slots=True)
class NeverFits:
    """Even an empty machine lacks so many bytes, or so many devices."""

    short: int
    devices_missing: int = 0


Verdict = Fits | Evict | HeldBack | NeverFits


class Ledger:
    """Budgets of devices, and what engines hold of them.

    Args:
        budgets: Device → bytes that all engines together may hold there.
    """

    def __init__(self, budgets: Mapping[str, int]) -> None:
        self._budgets = dict(budgets)
        self._held: dict[str, dict[str, int]] = {}

    @property
    def budgets(self) -> Mapping[str, int]:
        """Device → bytes."""
        return self._budgets

    @property
    def holdings(self) -> Mapping[str, Holding]:
        """Engine → what it holds."""
        return self._held

    def set_budgets(self, budgets: Mapping[str, int]) -> None:
        """Other budgets from now on; what is held stays held."""
        self._budgets = dict(budgets)

    def hold(self, name: str, holding: Holding) -> None:
        """Write down what ``name`` holds from now on, in place of what it held."""
        self._held[name] = {device: size for device, size in holding.items() if size}

    def release(self, name: str) -> None:
        """``name`` holds nothing any more."""
        self._held.pop(name, None)

    def held(self, device: str, without: Collection[str] = ()) -> int:
        """Bytes held on a device by all engines but those in ``without``."""
        return sum(
            holding.get(device, 0) for name, holding in self._held.items() if name not in without
        )

    def free(self, device: str, without: Collection[str] = ()) -> int:
        """Bytes left on a device; negative when an engine turned out larger than was thought."""
        return self._budgets.get(device, 0) - self.held(device, without)

    def place(
        self,
        name: str,
        need: Need,
        evictable: Mapping[str, float],
        *,
        only: tuple[str, ...] | None = None,
    ) -> Verdict:
        """Where ``name`` can be loaded, and who must go for it.

        What ``name`` itself holds now (asleep, for example) does not count.

        Args:
            need: What it takes.
            evictable: Engines that may go, each with what that costs (any unit, at least 0).
            only: The devices, where there is no choice.
        """
        sets = list(self._device_sets(need.devices)) if only is None else [only]
        if not sets:
            return NeverFits(0, devices_missing=need.devices - len(self._places()))
        wanted = {chosen: need.on(chosen, loading=True) for chosen in sets}
        short = min(
            max(size - self._budgets.get(device, 0) for device, size in sizes.items())
            for sizes in wanted.values()
        )
        if short > 0:
            return NeverFits(short)
        offers = [
            (cost, victims, chosen)
            for chosen, sizes in wanted.items()
            for cost, victims in self._cheapest(name, sizes, evictable)
        ]
        if not offers:
            everybody = {name, *evictable}
            return HeldBack(
                min(
                    max(size - self.free(device, everybody) for device, size in sizes.items())
                    for sizes in wanted.values()
                )
            )
        # Of equally cheap places the emptiest, so that engines spread over the devices.
        _, victims, chosen = min(
            offers,
            key=lambda offer: (
                offer[0],
                len(offer[1]),
                -min(self.free(device, {name, *offer[1]}) for device in offer[2]),
            ),
        )
        return Evict(tuple(sorted(victims)), chosen) if victims else Fits(chosen)

    def _places(self) -> list[str]:
        """Devices that engines run on: GPUs where there are some."""
        return [device for device in self._budgets if device != RAM] or list(self._budgets)

    def _device_sets(self, count: int) -> Iterator[tuple[str, ...]]:
        """Sets of devices for an engine over ``count`` of them; tensor parallel ranks are equal,
        so neighbours are tried and not every combination."""
        places = self._places()
        for first in range(len(places) - count + 1):
            yield tuple(places[first : first + count])

    def _cheapest(
        self, name: str, sizes: Holding, evictable: Mapping[str, float]
    ) -> Iterable[tuple[float, frozenset[str]]]:
        """The cheapest set of engines whose going makes room, if any does."""

        def enough(gone: Collection[str]) -> bool:
            without = {name, *gone}
            return all(self.free(device, without) >= size for device, size in sizes.items())

        useful = [
            other
            for other in evictable
            if other != name and any(self._held.get(other, {}).get(device) for device in sizes)
        ]
        if not enough(useful):
            return ()
        if len(useful) > _EXACT:
            return (self._greedy(useful, evictable, enough),)
        sets = (
            frozenset(gone)
            for size in range(len(useful) + 1)
            for gone in combinations(useful, size)
            if enough(gone)
        )
        best = min(
            sets,
            key=lambda gone: (
                sum(evictable[other] for other in gone),
                sum(sum(self._held[other].values()) for other in gone),
                sorted(gone),
            ),
        )
        return ((sum(evictable[other] for other in best), best),)

    @staticmethod
    def _greedy(
        useful: list[str],
        cost: Mapping[str, float],
        enough: Callable[[Collection[str]], bool],
    ) -> tuple[float, frozenset[str]]:
        """All of ``useful`` less whoever can stay, the dearest asked first."""
        gone = set(useful)
        for other in sorted(useful, key=lambda name: -cost[name]):
            if enough(gone - {other}):
                gone.discard(other)
        return sum(cost[other] for other in gone), frozenset(gone)
