"""``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``, as vLLM has them.

Its answers are ours word for word, and so are its statuses; errors have OpenAI's envelope as
everywhere here. Adapters are kept as all added entries are. vLLM's server has one base model, this
one may have several: ``base_model`` says which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response

from server.api.admin.access import require_admin
from server.api.admin.desk import AtDesk, Desk
from server.api.admin.entries import check_adapter, unusable
from server.api.dependencies import ignored_headers, require_json
from server.api.json_body import JsonRoute
from server.api.schemas.admin import LoadAdapterBody, UnloadAdapterBody
from server.api.schemas.answers import BODY_ERRORS, IGNORED, Responses, errors, refer
from server.errors import AdapterFailed, AdapterNotFound, InvalidRequest, ModelNotFound
from server.generation.hosted import HostedModel
from server.storage import AddedEntry

router = APIRouter(
    tags=["admin"],
    dependencies=[Depends(require_admin), Depends(require_json)],
    responses=errors(*BODY_ERRORS, 403, 404, 503),
    route_class=JsonRoute,
)
_SAID: Final[Responses] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "description": "It is done.",
        "headers": refer(IGNORED),
    }
}
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
# What an adapter takes from its base's entry, so that it is asked as the base is.
_AS_THE_BASE: Final = {
    "template",
    "history",
    "system",
    "context",
    "sampling",
    "stop",
    "tool_parser",
}
# An engine that is busy with something else has so long to take an adapter in.
_TAKEN_WITHIN_S: Final = 60.0


@router.post("/load_lora_adapter", response_class=Response, responses=_SAID)
async def load_lora_adapter(request: Request, body: LoadAdapterBody, desk: AtDesk) -> Response:
    """Serve an adapter as a model of its own, also after a restart.

    ``lora_path`` is a folder, or a repository of the Hugging Face hub. The adapter is checked
    before it is served; its base's engine takes it in at once if it is loaded and has room, and
    makes room otherwise while it goes on answering.
    """
    ignored = ignored_headers(request, body.ignored_fields())
    before = desk.keeper.added_entry(body.lora_name)
    _refuse_taken(desk, body, before)
    base = _base(desk, body)
    entry = {
        "id": body.lora_name,
        "base": base.entry.id,
        "adapter": _source(body),
        **base.entry.model_dump(mode="json", include=_AS_THE_BASE, exclude_unset=True),
    }
    replace = before is not None
    await check_adapter(desk, entry, replace=replace)
    await desk.keeper.add(entry, replace=replace)
    try:
        await _take_in(desk, body.lora_name)
    except AdapterFailed as error:
        # What was served before is served again.
        if before is None:
            await desk.keeper.remove(body.lora_name)
        else:
            await desk.keeper.add(before.entry, replace=True)
        raise unusable(error) from error
    return PlainTextResponse(
        f"Success: LoRA adapter '{body.lora_name}' added successfully.", headers=ignored
    )


@router.post("/unload_lora_adapter", response_class=Response, responses=_SAID)
async def unload_lora_adapter(request: Request, body: UnloadAdapterBody, desk: AtDesk) -> Response:
    """Serve an adapter no longer that was added; its running answers are finished."""
    ignored = ignored_headers(request, sorted(body.model_extra or ()))
    name = body.lora_name
    added = desk.keeper.added_entry(name)
    if added is None or "adapter" not in added.entry:
        if _is_adapter(desk, name):  # one of the file: says so
            await desk.keeper.remove(name)
        raise AdapterNotFound(f"The lora adapter '{name}' cannot be found.")
    await desk.keeper.remove(name)
    return PlainTextResponse(
        f"Success: LoRA adapter '{name}' removed successfully.", headers=ignored
    )


def _refuse_taken(desk: Desk, body: LoadAdapterBody, before: AddedEntry | None) -> None:
    name = body.lora_name
    if before is not None and "adapter" in before.entry:
        if not body.load_inplace:
            raise InvalidRequest(
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True.",
                param="lora_name",
                code="model_exists",
            )
        return
    if _is_adapter(desk, name):
        why = f"The lora adapter '{name}' stands in the registry file: change it there."
    elif before is not None or any(model.entry.id == name for model in desk.herd.models()):
        why = f"The lora adapter '{name}' conflicts with a served base model."
    else:
        return
    raise InvalidRequest(why, param="lora_name", code="model_exists")


def _is_adapter(desk: Desk, name: str) -> bool:
    return any(
        model.entry.id == name and model.entry.adapter is not None for model in desk.herd.models()
    )


def _base(desk: Desk, body: LoadAdapterBody) -> HostedModel:
    """The model that the adapter is for.

    Raises:
        InvalidRequest: It is none of these, or is not said where there are several.
    """
    said = body.base_model or body.base_model_name
    if said is not None:
        try:
            model = desk.herd.resolve(said)
        except ModelNotFound:
            raise InvalidRequest(
                f"There is no model '{said}' to put an adapter on.", param="base_model"
            ) from None
        if model.entry.base is not None:
            raise InvalidRequest(
                f"'{said}' is an adapter itself, of '{model.entry.base}'.", param="base_model"
            )
        return model
    groups = [desk.herd.models_of(engines) for engines in desk.herd.engines()]
    with_room = [models for models in groups if any(map(_has_room, models))]
    candidates = with_room or groups
    bases = [next(model for model in models if model.entry.base is None) for models in candidates]
    if len(bases) > 1:
        names = ", ".join(f"'{model.entry.id}'" for model in bases)
        raise InvalidRequest(
            f"Several models can take an adapter: {names}. Say which one with 'base_model'.",
            param="base_model",
            code="missing_required_parameter",
        )
    return bases[0]


def _has_room(model: HostedModel) -> bool:
    """Whether its engine was made for adapters."""
    return model.entry.adapter is not None or model.entry.engine.max_adapters is not None


def _source(body: LoadAdapterBody) -> Mapping[str, Any]:
    """Where the adapter's files come from, by vLLM's rules.

    Raises:
        AdapterNotFound: There is no such folder, and it is no repository's name either.
    """
    folder = Path(body.lora_path).expanduser().absolute()
    if folder.is_dir():
        return {"directory": str(folder)}
    if _REPOSITORY.fullmatch(body.lora_path):
        return {"hub": body.lora_path}
    raise AdapterNotFound(
        f"Loading lora {body.lora_name} failed: No adapter found for {body.lora_path}"
    )


async def _take_in(desk: Desk, name: str) -> None:
    """Have the engines that are loaded take in an adapter that was just added.

    Raises:
        AdapterFailed: They cannot.
    """
    model = desk.herd.resolve(name)
    engines = [slot.engine for slot in model.engines.slots if slot.engine is not None]
    assert model.adapter is not None
    for engine in engines:
        adapter = await model.adapter.find()
        async with model.adapter.on(engine, adapter, wait_seconds=_TAKEN_WITHIN_S):
            pass
