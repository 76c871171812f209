"""What the chat page sends, as FastAPI checks it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from server.api.schemas.sampling import SamplingFields
from server.storage.chat_messages import PathQuery

_LONGEST_TITLE = 200
_LONGEST_CONTENT = 2_000_000
_LONGEST_SYSTEM = 200_000
_MOST_OBJECT_BYTES = 16_384
_DEEPEST = 20
# Times of an imported file, in seconds: up to the year 5138.
_LATEST = 1e11
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def _one_line(text: str) -> str:
    return _UNSEEN.sub(" ", text).strip()


def _is_small(value: dict[str, Any]) -> dict[str, Any]:
    if not _is_shallow(value, _DEEPEST):
        limit = {"limit": _DEEPEST}
        raise PydanticCustomError("too_deep", "must be at most {limit} levels deep", limit)
    if len(orjson.dumps(value)) > _MOST_OBJECT_BYTES:
        limit = {"limit": _MOST_OBJECT_BYTES}
        raise PydanticCustomError("too_long", "must be at most {limit} bytes of JSON", limit)
    return value


def _is_shallow(value: Any, left: int) -> bool:
    """Whether JSON is nested no deeper: hundreds of levels can be read, and not written again."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left > 0 and all(_is_shallow(part, left - 1) for part in inside)


Number = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,80}$")]
Title = Annotated[str, Field(max_length=_LONGEST_TITLE), AfterValidator(_one_line)]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Content = Annotated[str, Field(max_length=_LONGEST_CONTENT)]
SmallObject = Annotated[dict[str, Any], AfterValidator(_is_small)]
Moment = Annotated[float, Field(ge=0, le=_LATEST, allow_inf_nan=False)]
State = Literal["whole", "partial"]
Role = Literal["system", "user", "assistant"]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Settings(SamplingFields):
    """What a chat asks with, or a message was asked with."""

    model_config = ConfigDict(strict=True, extra="forbid")

    stop: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] | None = None
    system: Annotated[str, Field(max_length=_LONGEST_SYSTEM)] | None = None


class NewChat(_Body):
    """A chat to be made."""

    title: Title = ""
    model: Line | None = None
    settings: Settings = Field(default_factory=Settings)


class ChangedChat(_Body):
    """What is to be another; what is left out stays."""

    title: Title = ""
    pinned: bool = False
    model: Line | None = None
    settings: Settings = Field(default_factory=Settings)
    leaf: Number = ""


class NewMessage(_Body):
    """A message to be kept."""

    parent: Number | None
    role: Role
    content: Content
    reasoning: Content = ""
    model: Line | None = None
    params: Settings | None = None
    usage: SmallObject | None = None
    finish_reason: Line | None = None
    error: SmallObject | None = None
    state: State = "whole"


class ChangedMessage(_Body):
    """What is to be another, as an answer grows; what is left out stays."""

    content: Content = ""
    reasoning: Content = ""
    usage: SmallObject | None = None
    finish_reason: Line | None = None
    error: SmallObject | None = None
    state: State = "whole"


class ImportedMessage(NewMessage):
    """A message of a file."""

    # Such as the siblings: whatever a message shows and a file need not say.
    model_config = ConfigDict(strict=True, extra="ignore")

    id: Number
    created: Moment


class ImportedChat(NewChat):
    """A chat of a file, each message behind its parent."""

    model_config = ConfigDict(strict=True, extra="ignore")

    pinned: bool = False
    leaf: Number | None = None
    created: Moment
    updated: Moment
    messages: list[ImportedMessage]

    @model_validator(mode="after")
    def _is_a_tree(self) -> ImportedChat:
        known: set[str | None] = {None}
        for message in self.messages:
            if message.id in known:
                raise _no_tree(f"there are two messages '{message.id}'")
            if message.parent not in known:
                raise _no_tree(f"no message before '{message.id}' is its parent")
            known.add(message.id)
        if self.leaf not in known:
            raise _no_tree(f"there is no message '{self.leaf}' that is its leaf")
        return self


def _no_tree(reason: str) -> PydanticCustomError:
    return PydanticCustomError("no_tree", "{reason}", {"reason": reason})


class ImportedFile(BaseModel):
    """What an export made."""

    model_config = ConfigDict(strict=True, extra="ignore")

    format: Literal["corral-chats"]
    version: Literal[1]
    # Looked at one by one (`imported_chat`): a large file is not looked at in one go.
    chats: list[Any]


def imported_chat(value: Any, at: int) -> ImportedChat:
    """A chat of a file, which is the file's ``at``-th.

    Raises:
        RequestValidationError: It is none.
    """
    try:
        return ImportedChat.model_validate(value)
    except ValidationError as error:
        place = ("body", "chats", at)
        raise RequestValidationError(
            [{**problem, "loc": (*place, *problem["loc"])} for problem in error.errors()]
        ) from None


class Preset(_Body):
    """Settings with a name."""

    name: Annotated[Line, Field(max_length=100)]
    settings: Settings


class Presets(_Body):
    """All presets, in place of those there were."""

    data: Annotated[list[Preset], Field(max_length=100)]


class ChatListQuery(BaseModel):
    """The query of the list of chats."""

    q: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[str, Field(max_length=200)] = ""


class PathPageQuery(BaseModel):
    """The query of a branch's messages."""

    leaf: Number | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 100
    before: Number | None = None

    def path_query(self) -> PathQuery:
        """As the storage wants it."""
        return PathQuery(leaf=self.leaf, limit=self.limit, before=self.before)


def said(body: BaseModel) -> dict[str, Any]:
    """The fields that a body names, as they are kept: settings without what they leave open."""
    settled: dict[str, Any] = {}
    for name in body.model_fields_set:
        value = getattr(body, name)
        settled[name] = kept(value) if isinstance(value, Settings) else value
    return settled


def kept(settings: Settings) -> dict[str, Any]:
    """Settings as they are kept: without what they leave open."""
    return settings.model_dump(exclude_none=True)
