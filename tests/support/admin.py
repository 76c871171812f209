"""Servers that are operated: a registry file, a database, and what operators are let in by."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel

from server.api.admin.options import AdminOptions
from tests.support.ranch import Ranch, in_process

LOCAL = "http://127.0.0.1:8000"


class Farm:
    """A folder with a registry file and a database, and the servers that are started there.

    Args:
        folder: Empty.
        model: A model's folder.
    """

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.model = model
        self.registry = folder / "model_registry.yaml"
        self.database_url = f"sqlite:///{folder}/corral.db"
        self.log_dir = folder / "logs"
        self.log_dir.mkdir()

    def write(self, *models: Mapping[str, Any]) -> None:
        """Write the registry file; entries without ``source`` get the model's folder."""
        self.write_whole([*map(self.entry, models)])

    def write_whole(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write the registry file with these entries as they are."""
        self.registry.write_text(json.dumps({"models": entries}))

    def entry(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """A whole entry."""
        return {"source": {"directory": str(self.model)}} | dict(model)

    def ranch(self, *models: Mapping[str, Any], **options: Any) -> Ranch:
        """A server that has read a registry file with these models."""
        self.write(*models)
        admin: dict[str, Any] = {"local": True, "registry": self.registry, "log_dir": self.log_dir}
        return Ranch(
            self.model,
            self.folder / "cache",
            models,
            budget=options.pop("budget", 1 << 40),
            database_url=options.pop("database_url", self.database_url),
            admin=AdminOptions(**(admin | options)),
        )

    @asynccontextmanager
    async def running(
        self, *models: Mapping[str, Any], **options: Any
    ) -> AsyncGenerator[tuple[Ranch, httpx.AsyncClient], None]:
        """A server of these models, and a client on its machine."""
        ranch = self.ranch(*models, **options)
        async with self.client(ranch) as client:
            yield ranch, client

    def client(self, ranch: Ranch) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """A client on the machine of a server that is started with it."""
        return in_process(ranch, LOCAL)


def exact(model: type[BaseModel], body: Any) -> None:
    """``body`` has the fields that ``model`` describes, and no others."""

    def check(value: object) -> None:
        if isinstance(value, BaseModel):
            assert not value.model_extra, type(value).__name__
            for name in type(value).model_fields:
                assert name in value.model_fields_set, f"{type(value).__name__}.{name}"
                check(getattr(value, name))
        elif isinstance(value, list):
            for item in value:
                check(item)

    check(model.model_validate(body))


def ids(engines: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """The models of each engine of an answer of ``/admin/models``."""
    return [[model["id"] for model in engine["models"]] for engine in engines]
