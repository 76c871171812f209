"""One or more engines of the same model: which of them a request goes to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from server.engines.base import Engine
from server.engines.slot import EngineSlot, Lease
from server.engines.states import SlotState, Status

# Tokens of a prompt that are looked at in one piece, and how many pieces: what a prefix cache keeps
# is worth most at a prompt's beginning, and system prompts are rarely longer.
_BLOCK_TOKENS = 64
_MOST_BLOCKS = 32
_MOST_PREFIXES = 20_000
# A replica that knows the prompt may have this many requests more than the least busy one.
_SLACK = 2
# The likelier a state leads to an answer soon, the earlier it stands here.
_ORDER: tuple[Status, ...] = (
    "ready",
    "sleeping",
    "loading",
    "restarting",
    "draining",
    "unloading",
    "unloaded",
    "failed",
)


class Replicas:
    """The engines behind a model.

    A request goes to the least busy engine that is ready, unless another one has lately seen the
    beginning of its prompt and is hardly busier: there it is in the prefix cache.

    Args:
        slots: At least one; all host the same model with the same settings.
    """

    def __init__(self, slots: Sequence[EngineSlot]) -> None:
        self.slots = tuple(slots)
        self._prefixes: OrderedDict[int, EngineSlot] = OrderedDict()

    @property
    def name(self) -> str:
        """The id of a model that they serve."""
        return self.slots[0].name

    @property
    def state(self) -> SlotState:
        """The state of the one that is best off, with the requests of all."""
        best = min((slot.state for slot in self.slots), key=lambda s: _ORDER.index(s.status))
        return SlotState(
            best.status,
            best.detail,
            best.since,
            sum(slot.running for slot in self.slots),
            sum(slot.waiting for slot in self.slots),
        )

    @property
    def engine(self) -> Engine | None:
        """One that is loaded, awake and alive, if any is."""
        return next((slot.engine for slot in self.slots if slot.engine is not None), None)

    async def acquire(self, prompt: Sequence[int], *, wait_seconds: float) -> Lease:
        """An engine for one request.

        Args:
            prompt: Its token ids.
            wait_seconds: Longest wait for one to be loaded.

        Raises:
            ModelLoading, ModelFailed, SlotRetired: See `EngineSlot.acquire`.
        """
        if len(self.slots) == 1:
            return await self.slots[0].acquire(wait_seconds=wait_seconds)
        blocks = list(_blocks(prompt))
        slot = self._choose(blocks)
        self._remember(blocks, slot)
        return await slot.acquire(wait_seconds=wait_seconds)

    def _choose(self, blocks: Sequence[int]) -> EngineSlot:
        open_ = [slot for slot in self.slots if slot.admits]
        if not open_:
            return min(self.slots, key=lambda slot: (_ORDER.index(slot.status), slot.load))
        least = min(open_, key=lambda slot: slot.load)
        for block in reversed(blocks):  # the longest known beginning
            known = self._prefixes.get(block)
            if known in open_ and known.load <= least.load + _SLACK:
                return known
        return least

    def _remember(self, blocks: Sequence[int], slot: EngineSlot) -> None:
        for block in blocks:
            self._prefixes[block] = slot
            self._prefixes.move_to_end(block)
        while len(self._prefixes) > _MOST_PREFIXES:
            self._prefixes.popitem(last=False)


def _blocks(prompt: Sequence[int]) -> Iterator[int]:
    """A hash of the prompt up to the end of each whole block."""
    known = 0
    end = min(len(prompt) // _BLOCK_TOKENS, _MOST_BLOCKS)
    for number in range(end):
        block = tuple(prompt[number * _BLOCK_TOKENS : (number + 1) * _BLOCK_TOKENS])
        known = hash((known, block))
        yield known
