"""What a server tells its admin API of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminOptions:
    """Where things are, and who may operate them.

    Args:
        keys: Admin keys.
        local: Only this machine reaches the server, so that without any keys its users may.
        registry: The registry file; None: it is not read again.
        watch: Read it again when it has changed.
        reload: Set from outside to have it read again.
        log_dir: Holds the engines' logs; None: there are none.
        stopping: Whether the server has been told to end, so that nothing endless goes on.
    """

    keys: Sequence[str] = ()
    local: bool = False
    registry: Path | None = None
    watch: bool = False
    reload: asyncio.Event = field(default_factory=asyncio.Event)
    log_dir: Path | None = None
    stopping: Callable[[], bool] = lambda: False
