"""Marks on everything the user wrote, so that it stays text whatever it spells.

Before a template runs, a mark (a Unicode noncharacter that occurs in none of the texts) is put

* after the first character of every control token that is spelled out inside a text, and
* around each text, inside its outer white space,

so that no control token's characters can be adjacent in the rendered prompt unless the template
wrote all of them: not a whole token, not a token begun by the template and finished by the user,
not one begun in one message and finished in the next. The tokenizer looks for control tokens in
the marked prompt and removes the marks from the text between them.

Templates do not notice. A guarded text compares, measures, searches, splits, trims and slices like
the text the user wrote (so ``'</think>' in content`` and ``content.split('</think>')`` do what the
template's author meant), and each result is guarded anew; only writing it out shows the marks. The
outer white space is left outside so that trimming works after a concatenation, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, SupportsIndex

from server.errors import InvalidRequest

# White space that no template writes of its own accord (EM SPACE).
PROBE: Final = "\u2003"


class MarkTakenError(Exception):
    """A text holds one of the guard's marks; render again with other marks. Never leaves here."""


class GuardedText(str):
    """A user's text whose buffer carries the marks and whose methods see the text without them."""

    __slots__ = ("_guard", "_plain")

    _plain: str
    _guard: Guard

    def __str__(self) -> str:
        return self

    def __len__(self) -> int:
        return len(self._plain)

    def __eq__(self, other: object) -> bool:
        return bool(self._plain == _unguarded(other))

    def __hash__(self) -> int:
        return hash(self._plain)

    def __contains__(self, key: object) -> bool:
        return _unguarded(key) in self._plain

    def __getitem__(self, key: SupportsIndex | slice) -> GuardedText:
        return self._guard.wrap(self._plain[key])


def _unguarded(value: Any) -> Any:
    return value._plain if isinstance(value, GuardedText) else value


def _on_plain(name: str) -> Callable[..., Any]:
    """A string method that works on the user's text and guards what it returns."""
    method = getattr(str, name)

    def call(self: GuardedText, *args: Any, **kwargs: Any) -> Any:
        plain_args = [_unguarded(arg) for arg in args]
        return self._guard.wrap_result(method(self._plain, *plain_args, **kwargs))

    call.__name__ = name
    return call


for _name in (
    *("strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "replace"),
    *("split", "rsplit", "splitlines", "partition", "rpartition"),
    *("lower", "upper", "title", "capitalize", "casefold", "swapcase"),
    *("startswith", "endswith", "find", "rfind", "index", "rindex", "count"),
    *("isalnum", "isalpha", "isdigit", "islower", "isnumeric", "isspace", "isupper"),
):
    setattr(GuardedText, _name, _on_plain(_name))


class Guard:
    """Puts the marks of one render.

    Args:
        control: The control-token strings of the tokenizer, each two characters or longer.
        mark: One character that occurs in no control token and not in the template.
        end: Another such character; ``protect_open`` puts it where the prompt is to be cut.
    """

    def __init__(self, control: ControlPattern, mark: str, end: str) -> None:
        self.mark = mark
        self.end = end
        self._control = control
        self._broken = r"\1" + mark

    def protect(self, text: str) -> GuardedText:
        """Guard one text.

        Raises:
            MarkTakenError: The text itself holds a mark.
        """
        if self.mark in text or self.end in text:
            raise MarkTakenError
        return self.wrap(text)

    def protect_open(self, text: str) -> GuardedText:
        """Guard the text of a message that is to be continued, with ``end`` after it.

        The white space that follows shows, once rendered, whether the template trims contents.
        """
        self.protect(text)
        return self.wrap(text + self.end + PROBE)

    def protect_all(self, value: Any) -> Any:
        """Guard every string of a JSON value, keys included.

        Raises:
            MarkTakenError: As ``protect``.
            InvalidRequest: The value is not JSON; an object could smuggle text past the guard.
        """
        if isinstance(value, str):
            return self.protect(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Mapping):
            return {self._protect_key(k): self.protect_all(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.protect_all(item) for item in value]
        raise InvalidRequest(f"Expected a JSON value, not {type(value).__name__}.")

    def wrap(self, text: str) -> GuardedText:
        """Guard a text without looking for marks in it."""
        guarded = GuardedText(self._marked(text))
        guarded._plain = text
        guarded._guard = self
        return guarded

    def wrap_result(self, value: Any) -> Any:
        """Guard what a string method returned: a string, some strings, or neither."""
        if isinstance(value, str):
            return self.wrap(value)
        if isinstance(value, list):
            return [self.wrap(item) for item in value]
        if isinstance(value, tuple):
            return tuple(self.wrap(item) for item in value)
        return value

    def _protect_key(self, key: Any) -> Any:
        return self.protect(key) if isinstance(key, str) else key

    def _marked(self, text: str) -> str:
        body = text.strip()
        if body:
            broken = self._control.first_characters.sub(self._broken, body)
            start = len(text) - len(text.lstrip())
            marked = f"{self.mark}{broken}{self.mark}"
            text = f"{text[:start]}{marked}{text[start + len(body) :]}"
        if self._control.has_space and text:
            # Here outer white space can be a part of a token, so it is closed in as well.
            return f"{self.mark}{text}{self.mark}"
        return text


class ControlPattern:
    """The control-token strings of a tokenizer, compiled for ``Guard``."""

    def __init__(self, tokens: Collection[str]) -> None:
        # Longest first is not needed here: any match breaks the token, and the lookahead sees
        # tokens that overlap.
        alternatives = "|".join(re.escape(token) for token in tokens)
        self.first_characters = re.compile(
            rf"(?=(?:{alternatives}))(.)" if alternatives else r"(?!)()", re.DOTALL
        )
        self.characters = frozenset("".join(tokens))
        self.has_space = any(character.isspace() for character in self.characters)
