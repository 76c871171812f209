"""``/ui/presets``: settings with names, for any chat."""

from __future__ import annotations

from typing import Any

from server.api.dependencies import Stored
from server.api.schemas.ui import Presets, kept
from server.api.ui.parts import JSON, ui_router
from server.api.ui.visitors import Visitor
from server.errors import InvalidRequest

router = ui_router()


@router.get("/presets")
async def list_presets(storage: Stored, owner: Visitor) -> dict[str, Any]:
    """Every preset, in the order in which they were put."""
    return {"data": await storage.presets.all(owner)}


@router.put("/presets", dependencies=JSON)
async def put_presets(body: Presets, storage: Stored, owner: Visitor) -> dict[str, Any]:
    """Keep these in place of all there were."""
    presets = [{"name": one.name, "settings": kept(one.settings)} for one in body.data]
    names = [preset["name"] for preset in presets]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise InvalidRequest(f"Two presets are called '{name}'.", param=f"data.{at}.name")
    await storage.presets.put(owner, presets)
    return {"data": presets}
