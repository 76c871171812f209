"""docs/chat-page.md: what it says of the page is so."""

from __future__ import annotations

import re

from tests.docs.blocks import ROOT

TEXT = (ROOT / "docs" / "chat-page.md").read_text("utf-8")
SHORTCUTS = ROOT / "clients" / "web" / "src" / "composables" / "useShortcuts.ts"
NAMES = {"escape": "Esc"}


def test_every_shortcut_is_in_the_table() -> None:
    found = re.findall(r"\{ action: '\w+', .*key: '(\S+)'(.*)\}", SHORTCUTS.read_text("utf-8"))
    assert len(found) == 9
    rows = {row.split(" | ")[0] for row in re.findall(r"^\| (<kbd>.*) \|$", TEXT, re.MULTILINE)}
    shown = {keys for row in rows for keys in row.split(", ")}
    for key, further in found:
        names = ["Ctrl"] * ("mod" in further) + ["Shift"] * ("shift" in further)
        keys = [*names, NAMES.get(key, key.upper())]
        assert " ".join(f"<kbd>{name}</kbd>" for name in keys) in shown


def test_its_pictures_are_small() -> None:
    pictures = set(re.findall(r"images/(page-\w+\.png)", TEXT))
    folder = ROOT / "docs" / "images"
    assert pictures <= {path.name for path in folder.iterdir()}
    assert all((folder / name).stat().st_size <= 200_000 for name in pictures)
