"""Small value types of the registry file: byte sizes, times, and the base of every section."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
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


ByteSize = Annotated[
    int,
    BeforeValidator(_byte_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([KMGTkmgt]?[iI]?[bB])?\s*$"},
            ],
            "examples": ["512MiB", "2GB"],
        }
    ),
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

StopString = Annotated[str, Field(min_length=1, max_length=64)]
