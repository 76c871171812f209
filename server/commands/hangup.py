"""SIGHUP: to a server that runs in a terminal its end, otherwise a wish."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable


def on_hangup(reload: Callable[[], None], end: Callable[[], None]) -> None:
    """Have SIGHUP handled from now on; call it on the running event loop.

    The terminal in which a program runs sends it when it is closed, and whoever closes it means the
    program too; ``nohup`` says otherwise. Everybody else who sends it to a server wants it to read
    its configuration again.

    Args:
        reload: Read the configuration again.
        end: End the server.
    """
    shown = [number for number in range(3) if os.isatty(number)]
    ends = _has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN

    def told() -> None:
        # A terminal that was closed is taken from its processes before they hear of it.
        if ends and not _has_terminal():
            _silence(shown)
            end()
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, told)


def _silence(shown: Iterable[int]) -> None:
    """Whoever writes to a terminal that is gone fails, and must not while the server ends.

    Args:
        shown: File descriptors of the terminal.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in shown:
        os.dup2(nowhere, number)
    os.close(nowhere)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
