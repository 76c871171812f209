"""OpenAI's description of its own API, for checking that our answers follow it.

The file is not ours to ship: https://github.com/openai/openai-openapi has it (``openapi.json``).
Name your copy in ``CORRAL_OPENAI_SPEC``; tests that need it are skipped without.
"""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

VARIABLE = "CORRAL_OPENAI_SPEC"
_URI = "urn:openai"


class OpenAiSpec:
    """The component schemas of an OpenAPI file.

    Args:
        path: ``openapi.json``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def from_environment(cls) -> OpenAiSpec | None:
        """The file that ``CORRAL_OPENAI_SPEC`` names, if it is set."""
        name = os.environ.get(VARIABLE)
        return cls(Path(name)) if name else None

    def problems(self, component: str, value: Any) -> list[str]:
        """Why ``value`` is no ``component``; empty if it is."""
        schema = {"$ref": f"{_URI}#/components/schemas/{component}"}
        validator = Draft202012Validator(schema, registry=self._registry)
        return [
            f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)
        ]

    @cached_property
    def _registry(self) -> Registry[Any]:
        spec = _plain(json.loads(self._path.read_text(encoding="utf-8")))
        resource = Resource.from_contents(spec, default_specification=DRAFT202012)
        return Registry().with_resource(_URI, resource)


def _plain(node: Any) -> Any:
    """``nullable``, a word of older OpenAPI that the description still has, in JSON Schema's."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {name: _plain(value) for name, value in node.items()}
    if plain.pop("nullable", None) is True:
        return {"anyOf": [plain, {"type": "null"}]}
    return plain
