"""Answers compared with the API's description, for every test that asks in the process."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from starlette.types import ASGIApp

from server.api.description import describe_api

_URI = "urn:corral"


class Described:
    """The description of a server.

    Args:
        app: The server; what differs between servers is who needs a key, and that is not compared.
    """

    def __init__(self, app: ASGIApp) -> None:
        found: Any = app
        while not hasattr(found, "routes"):
            found = found.app
        self.description = describe_api(found)
        resource = Resource.from_contents(self.description, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_URI, resource)
        self._validator = cache(self._validator_of)
        self._paths = [(_pattern(path), path) for path in self.description["paths"]]

    async def check(self, answer: httpx.Response) -> None:
        """Raise AssertionError if an answer is none that its operation has."""
        path = answer.request.url.path
        versioned = path if path.startswith("/v1/") else f"/v1{path}"
        names = [name for regex, name in self._paths if regex.fullmatch(versioned)]
        names = names or [path] * (path in self.description["paths"])
        operation = self.description["paths"].get(names[0], {}) if names else {}
        operation = operation.get(answer.request.method.lower())
        if operation is None:
            return
        where = f"{answer.request.method} {path}: {answer.status_code}"
        found = operation["responses"].get(str(answer.status_code))
        assert found is not None, f"{where} is not described"
        for name, reference in found["headers"].items():
            header = self.description["components"]["headers"][reference["$ref"].split("/")[-1]]
            value = answer.headers.get(name)
            assert value is not None or not header["required"], f"{where} has no {name}"
            pattern = header["schema"].get("pattern")
            assert value is None or pattern is None or re.search(pattern, value), (where, name)
        media_type = answer.headers["content-type"].partition(";")[0]
        assert media_type in found["content"], f"{where} is {media_type}"
        schema = found["content"][media_type]["schema"]
        await answer.aread()
        if media_type == "application/json":
            self._compare(where, schema, json.loads(answer.content))
            return
        for event in _data(answer.text):
            self._compare(where, schema["properties"]["data"], event)

    def _compare(self, where: str, schema: Any, value: Any) -> None:
        if isinstance(value, str) and "anyOf" in schema:  # "[DONE]", or an event before it
            _, schema = schema["anyOf"]
            if value == "[DONE]":
                return
        if "contentSchema" in schema:
            schema, value = schema["contentSchema"], json.loads(value)
        problems = [
            f"{error.json_path}: {error.message[:300]}"
            for error in self._validator(json.dumps(schema)).iter_errors(value)
        ]
        assert not problems, (where, problems)

    def _validator_of(self, schema: str) -> Draft202012Validator:
        absolute = json.loads(schema.replace('"#/', f'"{_URI}#/'))
        return Draft202012Validator(absolute, registry=self._registry)


def _pattern(path: str) -> re.Pattern[str]:
    # Names of models have slashes in them.
    parts = re.split(r"\{[a-z_]+\}", path)
    return re.compile(
        (".+" if path.startswith("/v1/models/") else "[^/]+").join(map(re.escape, parts))
    )


def _data(text: str) -> list[str]:
    lines = [line for line in text.split("\n") if line.startswith("data: ")]
    return [line.removeprefix("data: ") for line in lines]
