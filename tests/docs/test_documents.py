"""What the documents say of commands, settings and files is so."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import typer

from evaluation.cli import app as evaluation_app
from evaluation.items import Rules
from evaluation.loading import read_task_file
from server.cli import app
from server.engines.states import Status
from server.prompts.catalog import FORMATS
from server.registry.loader import load_registry
from server.settings import Settings
from tests.docs.blocks import DOCUMENTS, KINDS, ROOT, Block, find_blocks, of_kind

README = (ROOT / "README.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def where(block: Block) -> str:
    return block.where


def cells(document: str, pattern: str) -> list[str]:
    """The first cells of table rows that match."""
    return re.findall(rf"^\| `({pattern})` \|", document, re.MULTILINE)


def commands() -> list[str]:
    """Every command of ``corral``, as it is typed."""
    found = []
    root = typer.main.get_command(app)
    for name, command in getattr(root, "commands").items():  # noqa: B009 - click's groups are untyped
        children = getattr(command, "commands", {})
        found += [f"corral {name} {child}" for child in children] or [f"corral {name}"]
    brought = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    return [*found, *(f"corral {name}" for name in brought["corral.commands"])]


@pytest.mark.parametrize("block", find_blocks(), ids=where)
def test_every_block_is_of_a_kind_that_is_tested(block: Block) -> None:
    assert block.kind in KINDS


@pytest.mark.parametrize("block", of_kind("yaml"), ids=where)
def test_registries_load(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "model_registry.yaml"
    path.write_text(block.code, encoding="utf-8")
    assert load_registry(path, known_templates=FORMATS).models


@pytest.mark.parametrize("block", of_kind("yaml task"), ids=where)
def test_task_files_load(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(block.code, encoding="utf-8")
    assert read_task_file(path).items


def test_the_evaluations_flags_and_rules_are_in_its_tables() -> None:
    document = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    shown = {*re.findall(r"`(--[a-z-]+)", document)}
    parameters = typer.main.get_command(evaluation_app).params
    flags = {name for parameter in parameters for name in parameter.opts}
    assert shown <= flags
    assert flags - shown == {"--judge-api-key", "--out"}
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", document, re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"[a-z_]+", row)] == [*Rules.model_fields]


def test_the_drawing_and_the_table_have_every_state() -> None:
    (drawing,) = of_kind("mermaid")
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)", drawing.code, re.MULTILINE))
    assert {state for arrow in drawn for state in arrow} == {*get_args(Status)}
    assert cells(OPERATIONS, "[a-z]+")[: len(get_args(Status))] == [*get_args(Status)]


@pytest.mark.parametrize("block", of_kind("sh make"), ids=where)
def test_make_knows_its_targets(block: Block) -> None:
    for line in block.code.splitlines():
        words = shlex.split(line)
        assert words[0] == "make"
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("block", of_kind("sh docker"), ids=where)
def test_docker_builds_targets_that_exist(block: Block) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    targets = re.findall(r"--target (\S+)", block.code)
    assert targets
    for target in targets:
        assert re.search(rf"^FROM \S+ AS {target}$", dockerfile, re.MULTILINE)
    subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)


def test_every_setting_is_in_the_table() -> None:
    names = cells(README, "CORRAL_[A-Z_]+")
    assert names == [f"CORRAL_{name.upper()}" for name in Settings.model_fields]


def test_the_tables_defaults_are_the_settings() -> None:
    rows = dict(re.findall(r"^\| `CORRAL_([A-Z_]+)` \| (?:`([^`]*)`)? ?\|", README, re.MULTILINE))
    for name, field in Settings.model_fields.items():
        if field.default is not None:
            shown = str(field.default)
            assert rows[name.upper()] == (shown.lower() if shown in ("True", "False") else shown)


def test_every_command_is_in_the_table() -> None:
    assert sorted(cells(README, "corral [a-z ]+")) == sorted(commands())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_the_repository_lead_somewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    links = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    missing = [link for link in links if not (path.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", [README, OPERATIONS, ARCHITECTURE], ids=["r", "o", "a"])
def test_variables_that_are_named_exist(document: str) -> None:
    known = {f"CORRAL_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"CORRAL_[A-Z_]*[A-Z]", document)) <= known


def test_functions_that_the_architecture_names_exist() -> None:
    source = "\n".join(
        path.read_text("utf-8")
        for folder in ("server", "evaluation", "training")
        for path in (ROOT / folder).rglob("*.py")
    )
    names = {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", ARCHITECTURE)}
    code = {name for name in names if name[0].isalpha() and ("_" in name or name[0].isupper())}
    missing = {name for name in code if not re.search(rf"\b{name}\b", source)}
    assert missing - {"CORRAL_"} == set()


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decisions_have_their_parts(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith(f"# {path.stem[:4]}: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_decisions_are_numbered_without_gaps() -> None:
    assert [path.stem[:4] for path in DECISIONS] == [f"{n + 1:04}" for n in range(len(DECISIONS))]
