"""What bodies and queries of stored objects share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from server.api.schemas.shapes import DescribedAs
from server.storage.items import Page, PageQuery

# OpenAI's limits.
_MOST_PAIRS = 16
_Key = Annotated[str, Field(min_length=1, max_length=64)]
_Value = Annotated[str, Field(max_length=512)]


def _none_is_empty(value: Any) -> Any:
    return {} if value is None else value


_Pairs = Annotated[dict[_Key, _Value], Field(max_length=_MOST_PAIRS)]
Metadata = Annotated[_Pairs, BeforeValidator(_none_is_empty), DescribedAs(_Pairs | None)]


class ListQuery(BaseModel):
    """The query of a list of items."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None

    def page_query(self) -> PageQuery:
        """As the storage wants it."""
        return PageQuery(
            limit=self.limit, descending=self.order == "desc", after=self.after or None
        )


def list_envelope(page: Page) -> dict[str, Any]:
    """OpenAI's form of a list; the ids are None where it is empty."""
    items = page.items
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": page.has_more,
    }
