"""YAML with line numbers: the data of a file, and where in the file each part of it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

Location = Sequence[str | int]
"""Keys and list positions from the top of the file down to one part of it."""


class _Loader(yaml.SafeLoader):
    """Safe YAML, less two surprises of YAML 1.1: dates stay text, and 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class YamlMistakeError(Exception):
    """The text is not YAML, or not YAML that can be turned into plain data.

    Args:
        line: Line of the mistake, from 1.
        message: What is wrong.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class YamlTree:
    """A parsed file.

    Args:
        text: The file's text.

    Raises:
        YamlMistakeError: It cannot be parsed.
    """

    def __init__(self, text: str) -> None:
        try:
            loader = _Loader(text)
            self._root = loader.get_single_node()
            # Looked for first: constructing the data melts merged keys (<<) into the mapping.
            self.duplicate_keys = list(_duplicate_keys(self._root))
            self.data: Any = loader.construct_document(self._root) if self._root else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise YamlMistakeError(mark.line + 1 if mark else 1, _describe(error)) from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise YamlMistakeError(line, "holds a character that YAML does not allow") from error
        except yaml.YAMLError as error:
            raise YamlMistakeError(1, f"is not valid YAML: {error}") from error
        except RecursionError as error:
            raise YamlMistakeError(1, "is nested too deeply") from error
        # Constructors raise these for malformed values with an explicit tag, or giant numbers.
        except (ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:
            raise YamlMistakeError(1, f"holds a value that cannot be read: {error}") from error

    def line(self, location: Location) -> int:
        """Line (from 1) of the part at this location, or of its nearest parent that exists.

        A mapping's part stands at its key, a list's at its item.
        """
        node, line = self._root, 1
        for depth, step in enumerate(location):
            found = _child(node, step)
            if found is None:
                # Something is missing: point at what it is missing from.
                return line if depth else _line(node)
            line, node = found
        return line


def _child(node: yaml.Node | None, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        # From the end: an own key comes after (and wins over) those that << merged in.
        for key, value in reversed(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value == str(step):
                return _line(key), value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return _line(node.value[step]), node.value[step]
    return None


def _line(node: yaml.Node | None) -> int:
    return node.start_mark.line + 1 if node is not None else 1


def _duplicate_keys(root: yaml.Node | None) -> Iterator[tuple[int, list[str | int], str]]:
    """Line, location of the mapping, and key, for each key that a mapping holds twice."""
    pending: list[tuple[yaml.Node | None, list[str | int]]] = [(root, [])]
    visited: set[int] = set()  # anchors let one node stand in several places, even in itself
    while pending:
        node, location = pending.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else None
                if name is not None and name in seen and name != "<<":
                    yield _line(key), location, name
                if name is not None:
                    seen.add(name)
                pending.append((value, [*location, name or "?"]))
        elif isinstance(node, yaml.SequenceNode):
            pending.extend((item, [*location, i]) for i, item in enumerate(node.value))


def _describe(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    hint = ""
    if "'\\t'" in (error.problem or ""):
        hint = " (indent with spaces, not with tabs)"
    return f"is not valid YAML: {', '.join(parts)}{hint}"
