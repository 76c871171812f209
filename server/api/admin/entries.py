"""Adding an entry, whichever way it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.api.admin.desk import Desk
from server.api.auth import Forbidden
from server.errors import AdapterFailed, InvalidRequest
from server.generation.hosted import HostedModel


async def served(desk: Desk, entry: Mapping[str, Any], *, replace: bool) -> HostedModel:
    """The model that an added entry has become.

    Raises:
        Forbidden: It says what only an admin with a key may.
        InvalidRequest: Its adapter cannot be used.
        CorralError: See `RegistryKeeper.add`.
    """
    engine = entry.get("engine")
    # vLLM's own arguments can have it run code that lies in a model's folder. Without a key every
    # user of this machine is let in, and the server's user should not be theirs.
    if isinstance(engine, Mapping) and "extra" in engine and not desk.door.has_keys:
        raise Forbidden(
            "'engine.extra' can make the server run other people's code, so it is taken from "
            "admins with a key alone. Set CORRAL_ADMIN_KEY, or write the entry into the registry "
            "file.",
            code="admin_key_required",
        )
    adapter = entry.get("adapter")
    if isinstance(adapter, Mapping) and "directory" in adapter:  # others may take long to come
        await check_adapter(desk, entry, replace=replace)
    added = await desk.keeper.add(entry, replace=replace)
    return desk.herd.resolve(added.id)


async def check_adapter(desk: Desk, entry: Mapping[str, Any], *, replace: bool) -> None:
    """Refuse an adapter that cannot be used, as far as can be told without its engine.

    Raises:
        InvalidRequest: It cannot; says why.
        CorralError: See `RegistryKeeper.add`.
    """
    try:
        await desk.keeper.check_adapter(entry, replace=replace)
    except AdapterFailed as error:
        raise unusable(error) from error


def unusable(error: AdapterFailed) -> InvalidRequest:
    """What whoever adds an adapter is told: it is his to mend."""
    return InvalidRequest(str(error), param="adapter", code="adapter_failed")
