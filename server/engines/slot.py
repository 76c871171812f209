"""One engine's place: what it is doing, who uses it, and who waits for it.

A slot keeps count and hands the engine out; `pool.Pool` decides what happens to it. States::

    unloaded ──▶ loading ──▶ ready ◀──▶ sleeping            (sleeping: GPU only)
       ▲            │          │ ▲
       │            │          ▼ │ nobody waits any more
       │            │       draining                        (finishes what runs, admits nothing new)
       │            │          ▼
       └────────────┼───── unloading
                    │
                    ├──▶ failed ──after a pause, by the next request──▶ loading
                    │
    ready ──its process ended or hangs──▶ restarting ──after a pause──▶ loading
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from server.engines.base import Engine
from server.engines.ledger import Need
from server.engines.states import (
    Clock,
    EngineLoader,
    SlotOptions,
    SlotRetired,
    SlotState,
    Status,
)
from server.engines.tenure import Tenure
from server.errors import CorralError, EngineDied, ModelEvicted, ModelFailed, ModelLoading

# A model that failed is not tried again sooner, so that a broken one costs its callers no minutes.
RETRY_AFTER_S = 10.0
_LONGEST_RETRY_S = 300.0
# The first restart comes at once, later ones after 1, 2, 4, … seconds.
_LONGEST_PAUSE_S = 60.0
# So many failures in a row and the model counts as failed.
MAX_FAILURES = 5
# An engine that has lived so long starts with a clean record.
_PROVEN_S = 300.0


@dataclass(eq=False, slots=True)
class _Waiter:
    future: asyncio.Future[Tenure]
    since: float


class Lease:
    """A request's hold on an engine: a context manager that yields it.

    Raises:
        ModelEvicted: On leaving, in place of `EngineDied`, where the engine was taken away.
    """

    __slots__ = ("_slot", "_tenure")

    def __init__(self, slot: EngineSlot, tenure: Tenure) -> None:
        self._slot = slot
        self._tenure = tenure

    def __enter__(self) -> Engine:
        return self._tenure.engine

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._slot.leave(self._tenure)
        if isinstance(error, EngineDied) and self._tenure.evicted:
            raise ModelEvicted(self._slot.name) from error


class EngineSlot:
    """One engine that may or may not be loaded.

    Args:
        name: For errors: the id of a model that this engine serves.
        loader: Brings the engine.
        options: How it is kept; may be changed at any time.
        key: Names the slot among all of its pool.
        wake: Called when the pool should look at its slots.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        name: str,
        loader: EngineLoader,
        options: SlotOptions,
        *,
        key: str,
        wake: Callable[[], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = name
        self.key = key
        self.loader = loader
        self.options = options
        self.need: Need | None = None
        self.tenure: Tenure | None = None
        self.load_seconds: float | None = None
        self.retired = False
        self.drain_until: float | None = None
        # Clock time since which it should be loaded though nobody waits; None: it need not be.
        self.wanted_since: float | None = None
        # Not loaded before this clock time.
        self.not_before = 0.0
        # In a row, since an engine last proved itself.
        self.failures = 0
        self._waiters: deque[_Waiter] = deque()
        self._wake = wake
        self._clock = clock
        self._status: Status = "unloaded"
        self._detail = ""
        self._since = time.time()
        self._closed = False

    # What others see ------------------------------------------------------------------------

    @property
    def state(self) -> SlotState:
        return SlotState(self._status, self._detail, self._since, self.running, self.waiting)

    @property
    def status(self) -> Status:
        return self._status

    @property
    def engine(self) -> Engine | None:
        """The engine if it is loaded, awake and alive."""
        tenure = self.tenure
        return None if tenure is None or not self._answers(tenure) else tenure.engine

    @property
    def running(self) -> int:
        """Requests that hold the engine."""
        return 0 if self.tenure is None else self.tenure.running

    @property
    def waiting(self) -> int:
        """Requests that wait for the engine."""
        return len(self._waiters)

    @property
    def load(self) -> int:
        """Requests that hold it or wait for it."""
        return self.running + self.waiting

    @property
    def hopeless(self) -> bool:
        """Whether it has failed so often that only an operator can help."""
        return self._status == "failed" and self.failures >= MAX_FAILURES

    @property
    def idle_seconds(self) -> float | None:
        """Seconds for which nobody has held the engine; None: there is none."""
        return None if self.tenure is None else self.tenure.idle(self._clock())

    @property
    def retry_in(self) -> float | None:
        """Seconds after which it may be loaded again; None: it has not failed."""
        if self._status not in ("failed", "restarting"):
            return None
        return max(0.0, self.not_before - self._clock())

    @property
    def demanded_since(self) -> float | None:
        """Clock time since which somebody wants it loaded; None: nobody does."""
        return self._waiters[0].since if self._waiters else self.wanted_since

    # For requests ---------------------------------------------------------------------------

    async def acquire(self, *, wait_seconds: float) -> Lease:
        """The engine for one request, loaded first where needed.

        Raises:
            ModelLoading: It was not ready after ``wait_seconds``; loading goes on.
            ModelFailed: It cannot be loaded; the message says why.
            SlotRetired: Another slot serves the model from now on.
        """
        return Lease(self, self._at_once() or await self._in_turn(wait_seconds))

    @property
    def admits(self) -> bool:
        """Whether a request would get the engine at once."""
        return self.engine is not None and self.drain_until is None and not self.retired

    def _at_once(self) -> Tenure | None:
        tenure = self.tenure
        if tenure is None or not self.admits:
            return None
        tenure.running += 1
        return tenure

    @staticmethod
    def _answers(tenure: Tenure) -> bool:
        return tenure.engine.alive and not tenure.asleep

    async def _in_turn(self, wait_seconds: float) -> Tenure:
        self._refuse()
        waiter = _Waiter(asyncio.get_running_loop().create_future(), self._clock())
        self._waiters.append(waiter)
        self._wake()
        try:
            async with asyncio.timeout(wait_seconds):
                return await waiter.future
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            granted = waiter.future
            # The engine was handed over at the moment at which the request gave up.
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.leave(granted.result())
            if isinstance(error, TimeoutError):
                raise ModelLoading(self.name, self._still(), retry_after=5.0) from None
            raise

    def _refuse(self) -> None:
        """Raise what keeps a request from waiting."""
        if self.retired:
            raise SlotRetired
        if self._closed:
            raise self._stopping()
        pause = self.not_before - self._clock()
        if self._status == "failed" and pause > 0:
            raise ModelFailed(self.name, self._detail, retry_after=pause)

    def _still(self) -> str:
        doing = f" ({self._detail})" if self._detail else ""
        return f"The model '{self.name}' is still loading{doing}. Try again shortly."

    def leave(self, tenure: Tenure) -> None:
        """A request has ended."""
        tenure.running -= 1
        tenure.used_at = self._clock()
        if not tenure.running or not tenure.engine.alive:
            self._wake()

    # For the pool ---------------------------------------------------------------------------

    def enter(self, status: Status, detail: str = "") -> None:
        """Be in another state from now on."""
        if status != self._status:
            self._since = time.time()
        self._status, self._detail = status, detail

    def report(self, detail: str) -> None:
        """Say what is being done in the present state."""
        self._detail = detail

    def began(self, tenure: Tenure) -> None:
        """An engine is ready: hand it to everybody who waits."""
        self.tenure = tenure
        self.wanted_since = self.drain_until = None
        self.enter("ready")
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.future.done():
                tenure.running += 1
                waiter.future.set_result(tenure)

    def reopened(self) -> None:
        """The engine may be used again: it woke up, or need not go after all."""
        if self.tenure is not None:
            self.began(self.tenure)

    def ended(self, status: Status, detail: str = "") -> None:
        """The engine is gone, or about to be."""
        self.tenure = self.need = self.drain_until = None
        self.enter(status, detail)

    def failed(self, error: BaseException, *, again: bool) -> None:
        """The engine could not be loaded, or has died.

        Args:
            again: It served before: try again by itself, unless it has failed too often.
        """
        self.failures += 1
        now = self._clock()
        if again and self.failures < MAX_FAILURES:
            pause = 0.0 if self.failures == 1 else min(2.0 ** (self.failures - 2), _LONGEST_PAUSE_S)
            self.not_before = now + pause
            self.wanted_since = now
            self.ended("restarting", cause(error))
            return
        doubled = RETRY_AFTER_S * 2.0 ** max(0, self.failures - MAX_FAILURES)
        self.not_before = now + min(doubled, _LONGEST_RETRY_S)
        self.wanted_since = None
        self.ended("failed", cause(error))
        self.turn_away(
            lambda: ModelFailed(self.name, cause(error), retry_after=self.not_before - now), error
        )

    def proved(self, now: float) -> None:
        """Forget former failures once an engine has lived for a while."""
        if self.tenure is not None and now - self.tenure.loaded_at > _PROVEN_S:
            self.failures = 0

    def turn_away(
        self, reason: Callable[[], BaseException], origin: BaseException | None = None
    ) -> None:
        """Tell everybody who waits that it is in vain."""
        while self._waiters:
            future = self._waiters.popleft().future
            if not future.done():
                error = reason()
                error.__cause__ = origin
                future.set_exception(error)

    def retire(self) -> None:
        """Admit nobody any more; those who wait look the model up again."""
        self.retired = True
        self.wanted_since = None
        self.turn_away(SlotRetired)

    def close(self) -> None:
        """Admit nobody any more: the server is stopping."""
        self._closed = True
        self.wanted_since = None
        self.turn_away(self._stopping)

    def _stopping(self) -> ModelFailed:
        message = f"The model '{self.name}' is not loaded because the server is stopping."
        return ModelFailed(self.name, message)


def cause(error: BaseException) -> str:
    """Why something failed; what nobody foresaw is named by its kind too."""
    return str(error) if isinstance(error, CorralError) else f"{type(error).__name__}: {error}"
