"""Looking at something again and again while something else goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sampled(look: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call ``look`` every so often in a thread, the time that it takes itself included."""
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            started = time.monotonic()
            look()
            done.wait(max(0.0, every_s - (time.monotonic() - started)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
