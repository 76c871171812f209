"""``/v1/conversations``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from server.api.schemas.shapes import DescribedAs
from server.api.schemas.shapes_items import SentItem
from server.api.schemas.stored import Metadata


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    def ignored_fields(self) -> list[str]:
        """Names nobody knows, sorted."""
        return sorted(self.model_extra or {})


class NewConversation(_Body):
    """A conversation to be made; items stay plain, `items.read_items` knows them."""

    items: Annotated[list[Any], DescribedAs(list[SentItem])] | None = None
    metadata: Metadata = Field(default_factory=dict)


class ChangedConversation(_Body):
    """New metadata, in place of the old."""

    metadata: Metadata


class NewItems(_Body):
    """Items to be added."""

    items: Annotated[list[Any], DescribedAs(list[SentItem])]
