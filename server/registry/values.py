"""Small value types of the registry file: byte sizes, times, and the base of every section."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_BYTE_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?i?B)?\s*", re.IGNORECASE)


class Section(BaseModel):
    """Base of every mapping in the file: unknown fields are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def parse_byte_size(value: str | int) -> int:
    """Read a number of bytes as people write it.

    Args:
        value: ``536870912``, ``"512MiB"``, ``"2 GB"``, ``"1.5GiB"``. KB, MB, GB, TB are powers
            of 1000; KiB, MiB, GiB, TiB are powers of 1024.

    Returns:
        Bytes, at least 1.

    Raises:
        ValueError: It is none of these, or less than one byte.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a size such as 512MiB or 2GB")
    if isinstance(value, str):
        match = _BYTE_SIZE.fullmatch(value)
        if match is None:
            raise ValueError(f"must be a size such as 512MiB or 2GB, not '{value}'")
        number, unit = match.groups()
        # Fractions of a byte mean nothing; "1.5GiB" does.
        size = int(float(number) * _UNITS[(unit or "").upper()])
    else:
        size = value
    if size < 1:
        raise ValueError("must be more than 0 bytes")
    return size


def format_bytes(count: int) -> str:
    """Write a number of bytes for people: ``98.4 MB`` (powers of 1000, as disks are sold)."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def _byte_size(value: Any) -> int:
    try:
        return parse_byte_size(value)
    except ValueError as error:
        raise PydanticCustomError("byte_size", "{reason}", {"reason": str(error)}) from None


_SIZE_SCHEMA: list[dict[str, Any]] = [
    {"type": "integer", "minimum": 1},
    {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([KMGTkmgt]?[iI]?[bB])?\s*$"},
]
ByteSize = Annotated[
    int,
    BeforeValidator(_byte_size),
    WithJsonSchema({"anyOf": _SIZE_SCHEMA, "examples": ["512MiB", "2GB"]}),
]
"""Bytes: an integer, or text such as ``512MiB`` or ``2GB``; always an int after validation."""

_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|min|m|h|d|)\s*")


def parse_duration(value: str | float) -> float:
    """Read a length of time as people write it.

    Args:
        value: Seconds as a number, or ``"90s"``, ``"15m"``, ``"1.5h"``, ``"2d"``, ``"500ms"``.

    Returns:
        Seconds, at least 0.

    Raises:
        ValueError: It is none of these.
    """
    match = None if isinstance(value, bool) else _DURATION.fullmatch(str(value))
    if match is None:
        raise ValueError(f"must be a length of time such as 90s, 15m or 2h, not '{value}'")
    number, unit = match.groups()
    return float(number) * _SECONDS[unit]


def _duration(value: Any) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise PydanticCustomError("duration", "{reason}", {"reason": str(error)}) from None


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|min|m|h|d)?\s*$"},
            ],
            "examples": ["90s", "15m"],
        }
    ),
]
"""Seconds: a number, or text such as ``90s`` or ``15m``; always a float after validation."""
_TOKENS = re.compile(r"\s*([1-9]\d{0,11})\s*tokens?\s*")


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Size of a KV cache: in bytes, or in tokens of context; the other one is None."""

    bytes: int | None = None
    tokens: int | None = None

    def written(self) -> int | str:
        """As it may stand in the file: ``536870912`` or ``16384 tokens``."""
        return f"{self.tokens} tokens" if self.bytes is None else self.bytes


def _cache_size(value: Any) -> CacheSize:
    if isinstance(value, CacheSize):
        return value
    match = _TOKENS.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        return CacheSize(tokens=int(match[1]))
    try:
        return CacheSize(bytes=parse_byte_size(value))
    except ValueError as error:
        reason = str(error).replace("512MiB or 2GB", "512MiB or 16384 tokens")
        raise PydanticCustomError("byte_size", "{reason}", {"reason": reason}) from None


KvCacheSize = Annotated[
    CacheSize,
    PlainValidator(_cache_size),
    PlainSerializer(CacheSize.written),
    WithJsonSchema(
        {
            "anyOf": [*_SIZE_SCHEMA, {"type": "string", "pattern": r"^\s*[1-9]\d*\s*tokens?\s*$"}],
            "examples": ["512MiB", "2GB", "16384 tokens"],
        }
    ),
]
"""A KV cache's size: bytes as in `ByteSize`, or ``16384 tokens``."""

_DEVICE = r"^(ram|gpu\d{1,3})$"


def _memory(value: Any) -> int | dict[str, int]:
    if not isinstance(value, dict):
        return _byte_size(value)
    for device in value:
        if not isinstance(device, str) or not re.fullmatch(_DEVICE, device):
            reason = f"must name devices ram, gpu0, gpu1 and so on, not '{device}'"
            raise PydanticCustomError("byte_size", "{reason}", {"reason": reason})
    return {device: _byte_size(size) for device, size in value.items()}


DeviceMemory = Annotated[
    int | dict[str, int],
    BeforeValidator(_memory),
    WithJsonSchema(
        {
            "anyOf": [
                *_SIZE_SCHEMA,
                {
                    "type": "object",
                    "patternProperties": {_DEVICE: {"anyOf": _SIZE_SCHEMA}},
                    "additionalProperties": False,
                },
            ],
            "examples": ["16GiB", {"ram": "16GiB", "gpu0": "70GiB"}],
        }
    ),
]
"""Bytes for all devices alike, or device → bytes."""

StopString = Annotated[str, Field(min_length=1, max_length=64)]
