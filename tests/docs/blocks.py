"""The fenced code blocks of the documents.

A block's info string says what it is, and so how it is tested: ``sh`` is run against the server,
``sh make`` is what make would run, ``sh docker`` is only parsed, and so is ``sh train``,
``python`` is run, ``yaml`` is loaded as a registry, ``yaml task`` as a task file of the evaluation,
``yaml recipe`` as a recipe, ``text`` is a drawing, or a file of another program.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# docs/adding-a-model.md has tests of its own, beside the registry's.
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "docs" / "architecture.md",
    ROOT / "docs" / "chat-page.md",
    ROOT / "docs" / "clients.md",
    ROOT / "docs" / "evaluation.md",
    ROOT / "docs" / "operations.md",
    ROOT / "docs" / "training.md",
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]
KINDS = {
    "sh",
    "sh make",
    "sh docker",
    "sh train",
    "python",
    "yaml",
    "yaml recipe",
    "yaml task",
    "text",
    "mermaid",
}
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Args:
        where: ``README.md:12``, the line of its fence.
        kind: Its info string.
        code: What is between the fences.
    """

    where: str
    kind: str
    code: str


def find_blocks() -> list[Block]:
    """Every block of every document, in order."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            where = f"{path.relative_to(ROOT)}:{line}"
            found.append(Block(where, match.group(1).strip(), match.group(2)))
    return found


def of_kind(*kinds: str) -> list[Block]:
    return [block for block in find_blocks() if block.kind in kinds]
