"""The first lines that run in an engine's own process, before any of vLLM's.

Kept free of heavy imports: under ``spawn`` this module is what the new process loads first.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

# How soon an orphan notices where it has to look for itself.
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """What an engine's process must know of the server that made it.

    Args:
        server_pid: Process to follow into the grave.
        log_file: Receives stdout and stderr of the process, appended.
        environment: Variables that it must have, also where the process that it is forked from was
            made without them.
        empty_blocks: KV cache blocks are emptied before each use.
    """

    server_pid: int
    log_file: Path | None
    environment: Mapping[str, str] = field(default_factory=dict)
    empty_blocks: bool = False


def main(target: Callable[..., None], kwargs: Mapping[str, Any], settings: ChildSettings) -> None:
    """Run ``target(**kwargs)`` in a process that cannot outlive the server."""
    die_with(settings.server_pid)
    os.environ.update(settings.environment)
    if settings.log_file is not None:
        _redirect_output(settings.log_file)
    # Ctrl-C in a terminal reaches the whole process group, and vLLM would abort what it runs:
    # out of the group. Ending engines is the server's work.
    os.setpgrp()
    # Imports vLLM, as the target does.
    from server.engines import grammars, kv_blocks

    grammars.install()
    if settings.empty_blocks:
        kv_blocks.empty_new_ones()
    target(**kwargs)


def die_with(pid: int) -> None:
    """End this process, without clean-up, as soon as ``pid`` has ended.

    A pidfd and a thread rather than ``PR_SET_PDEATHSIG``: that one fires when the *thread* that
    made the process ends, and engines are started from worker threads.
    """
    wait: Callable[[], None]
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:  # already gone
        os._exit(1)
    except (AttributeError, OSError):  # a Python without the call, an old kernel, a sandbox
        wait = partial(_poll_proc, pid)
    else:
        wait = partial(_poll_handle, handle)
    threading.Thread(target=_exit_after, args=(wait,), name="die-with-server", daemon=True).start()


def _exit_after(wait: Callable[[], None]) -> None:
    wait()
    # The model's own worker processes (tensor parallel) notice this process's end by their pipes.
    os.kill(os.getpid(), signal.SIGKILL)


def _poll_handle(handle: int) -> None:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    poller.poll()


def _poll_proc(pid: int) -> None:
    while Path(f"/proc/{pid}").exists():
        time.sleep(_POLL_S)


def _redirect_output(log_file: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    handle = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
