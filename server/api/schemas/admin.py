"""What operators send, and what they are answered. Sizes are bytes, times seconds.

The answers are made by `api.admin.views`; these models describe them, and a test holds the two
together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.api.schemas.answers import Answer
from server.engines.states import Status
from server.errors import UnsupportedField

Action = Literal["load", "unload", "sleep", "wake", "restart", "pin", "unpin"]


class ActionBody(BaseModel):
    """How something is done to a model; nothing needs to be sent."""

    model_config = ConfigDict(strict=True, extra="forbid")

    level: Literal[1, 2] | None = None
    """How a model sleeps: 1 keeps its weights in RAM, 2 keeps nothing."""


class RequestCounts(Answer):
    """Requests that an engine computes, and that wait for it."""

    running: int
    waiting: int


class NeedObject(Answer):
    """What an engine takes of each of its devices."""

    weights: int
    kv_cache: int
    adapters: int
    overhead: int
    loading: int
    """Besides, only while it loads."""
    devices: int
    """How many devices share it."""
    host: int
    """RAM that its processes take besides GPUs."""


class EngineMemory(Answer):
    """What an engine is counted with, what it was reckoned to need, what was measured just now."""

    held: dict[str, int]
    need: NeedObject | None
    measured: dict[str, int] | None


class ProgressObject(Answer):
    """How far a load is; ``total`` is null where nobody knows, ``unit`` is B for bytes."""

    stage: str
    done: int
    total: int | None
    unit: str
    expected_seconds: float | None
    """How long the last load took."""


class ReplicaObject(Answer):
    """One engine."""

    status: Status
    detail: str | None
    since: float
    """Unix time."""
    devices: list[str]
    memory: EngineMemory
    requests: RequestCounts
    tokens_per_second: float
    load_seconds: float | None
    idle_seconds: float | None
    failures: int
    """In a row."""
    retry_after_seconds: float | None
    progress: ProgressObject | None


class HostedObject(Answer):
    """A model of an engine."""

    id: str
    aliases: list[str]
    description: str
    kind: str
    base: str | None
    """What it is an adapter of."""
    load: str
    status: Status
    """Its engine's, unless its own adapter cannot be used."""
    detail: str | None
    added: bool
    """By the admin API; the others stand in the registry file."""


class EngineObject(Answer):
    """What serves one or more models: one engine, or several replicas of one."""

    id: str
    object: Literal["engine"]
    models: list[HostedObject]
    status: Status
    """That of the replica that is best off."""
    detail: str | None
    since: float
    pinned: bool
    idle_timeout: float | None
    """Unloaded after so long without a request."""
    requests: RequestCounts
    tokens_per_second: float
    replicas: list[ReplicaObject]


class SetAsideObject(Answer):
    """An added entry that is not served, such as one whose name the file uses too."""

    id: str
    created_at: int
    reason: str


class EngineList(Answer):
    """Every engine with its models."""

    object: Literal["list"]
    data: list[EngineObject]
    shadowed: list[SetAsideObject]


class DeviceObject(Answer):
    """What engines may hold of a device, and do; ``free`` is negative where one is too large."""

    id: str
    budget: int
    held: int
    free: int


class HoldingObject(Answer):
    """What one engine holds."""

    engine: str
    status: Status
    leaving: bool
    """The registry lacks it by now: it finishes what runs there."""
    held: dict[str, int]


class MemoryObject(Answer):
    """Devices, and who holds them."""

    object: Literal["memory"]
    devices: list[DeviceObject]
    holdings: list[HoldingObject]


class HerdEvent(Answer):
    """The herd, as it is since the last event."""

    models: EngineList
    memory: MemoryObject


class ChangesObject(Answer):
    """Ids of models that a registry brought, took away or changed."""

    object: Literal["registry.changes"]
    added: list[str]
    removed: list[str]
    changed: list[str]
    shadowed: list[SetAsideObject]


class DeletedModel(Answer):
    """That an added entry is gone."""

    id: str
    object: Literal["model"]
    deleted: Literal[True]


class ProblemObject(Answer):
    """One mistake in a registry or an entry."""

    where: str
    field: str
    message: str


class LoadAdapterBody(BaseModel):
    """vLLM's request to serve an adapter, with the base it is for."""

    model_config = ConfigDict(strict=True, extra="allow")

    lora_name: Annotated[str, Field(min_length=1)]
    lora_path: Annotated[str, Field(min_length=1)]
    load_inplace: bool = False
    base_model: str | None = None
    """Id or alias of the model that the adapter was trained on."""
    base_model_name: str | None = None
    """The same, as vLLM names it elsewhere."""
    is_3d_lora_weight: bool = False
    """vLLM's, for the weights of mixtures of experts in one piece, which are not served."""

    def ignored_fields(self) -> list[str]:
        """Names nobody knows, sorted.

        Raises:
            UnsupportedField: What would change how the adapter is read is not obeyed.
        """
        if self.is_3d_lora_weight:
            raise UnsupportedField(
                "'is_3d_lora_weight' is not supported by this server: adapters change linear "
                "layers.",
                param="is_3d_lora_weight",
                code="unsupported_parameter",
            )
        return sorted(self.model_extra or ())


class UnloadAdapterBody(BaseModel):
    """vLLM's request to serve an adapter no longer."""

    model_config = ConfigDict(strict=True, extra="allow")

    lora_name: Annotated[str, Field(min_length=1)]
    lora_int_id: int | None = None
    """vLLM's own number, which means nothing here."""
