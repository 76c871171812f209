"""Jinja with the extras of Hugging Face's chat-template dialect.

The dialect: block trimming, loop controls, ``raise_exception``, ``strftime_now``, a ``tojson``
that leaves HTML characters alone, and the ``generation`` tag that marks the assistant's tokens for
training (it has no effect on the text). Templates are files from model directories, so they run
in Jinja's immutable sandbox. Source of the dialect: Hugging Face's "Chat templates" documentation
and transformers' ``chat_template_utils``; the implementation is our own.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from functools import cache
from importlib import resources
from typing import Any, Final

import jinja2
import jinja2.ext
import jinja2.meta
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Code points that Unicode sets aside for a program's own use and that must not be interchanged:
# the guard's marks are taken from here, and ``tojson`` never escapes them.
NONCHARACTERS: Final = tuple(chr(point) for point in range(0xFDD0, 0xFDF0))
_ESCAPABLE: Final = re.compile(f"[^\x00-\x7f{NONCHARACTERS[0]}-{NONCHARACTERS[-1]}]")

# What a broken template may raise while it runs.
TEMPLATE_FAILURES: Final = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class TemplateRefusal(jinja2.TemplateError):
    """A template called ``raise_exception``: it does not take this conversation."""


def compile_template(source: str) -> jinja2.Template:
    """Compile a chat template.

    Raises:
        jinja2.TemplateSyntaxError: The source is no valid template.
    """
    return _environment().from_string(source)


def template_variables(source: str) -> frozenset[str]:
    """Names that a chat template reads from what it is given.

    Raises:
        jinja2.TemplateSyntaxError: The source is no valid template.
    """
    return frozenset(jinja2.meta.find_undeclared_variables(_environment().parse(source)))


def read_template(name: str) -> str:
    """Source of the template file ``name`` in this package's ``templates`` folder."""
    file = resources.files("server.prompts").joinpath("templates", name)
    return file.read_text(encoding="utf-8")


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` ... ``{% endgeneration %}``: its body, in a scope of its own."""

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


_Generation.tags = {"generation"}


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[jinja2.ext.loopcontrols, _Generation],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    text = json.dumps(
        value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if ensure_ascii:
        # Not json.dumps' own escaping: an escaped mark could not be taken out again.
        return _ESCAPABLE.sub(lambda match: json.dumps(match[0])[1:-1], text)
    return text


def _raise_exception(message: str) -> None:
    raise TemplateRefusal(message)


def _strftime_now(pattern: str) -> str:
    return dt.datetime.now().astimezone().strftime(pattern)
