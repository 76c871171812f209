"""What the tests of ``load_registry`` share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.errors import RegistryError
from server.registry import Registry

Load = Callable[[str], Registry]


def complaints(load: Load, text: str) -> list[str]:
    with pytest.raises(RegistryError) as caught:
        load(text)
    assert str(caught.value).splitlines() == [str(p) for p in caught.value.problems]
    return str(caught.value).splitlines()


def entry(*lines: str) -> str:
    """A correct entry in lines 1 to 4, and more lines for it from line 5 on."""
    head = ["models:", "  - id: one", "    source:", "      directory: here"]
    return "\n".join([*head, *(f"    {line}" for line in lines)])
