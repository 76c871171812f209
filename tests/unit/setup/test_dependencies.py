"""What the server asks pip for is what it imports: nothing more, nothing less."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Needed although nothing of ours imports them.
BY_OTHERS = {
    "accelerate": "transformers reads GGUF weights with it",
    "aiosqlite": "SQLAlchemy finds it by the database's URL",
    "httptools": "uvicorn is told to use it by name",
}
# Imported although nothing of ours asks for them.
BROUGHT_ALONG = {
    "pydantic_core": "pydantic is bound to one version of it",
    "torch": "every build of vLLM brings its own",
    "tqdm": "the bars of transformers, which brings it",
    "vllm": "the extras cpu and gpu",
}
# Where a package is imported under another name.
NAMES = {"pyyaml": "yaml"}


# Asked for where they are installed, and named where they are not.
OPTIONAL = {"inspect_ai", "lm_eval"}


def imported(package: str = "server") -> Iterator[str]:
    """Every top-level module that is imported anywhere under a package of ours."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield (node.module or "").split(".")[0]


def asked(*extras: str) -> set[str]:
    texts = [*PROJECT["dependencies"]]
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    names = {canonicalize_name(Requirement(text).name) for text in texts}
    return {NAMES.get(name, name.replace("-", "_")) for name in names}


def test_nothing_is_installed_for_nothing() -> None:
    assert asked() - set(imported()) == set(BY_OTHERS)


def test_whatever_is_imported_is_asked_for() -> None:
    others = set(imported()) - sys.stdlib_module_names - {"server"}
    assert others - asked() == set(BROUGHT_ALONG)


def test_the_evaluation_asks_for_what_it_imports() -> None:
    others = {*imported("evaluation")} - sys.stdlib_module_names - {"evaluation"}
    assert others - asked("eval") == {"markupsafe", *OPTIONAL}  # jinja2 brings markupsafe
    assert asked("eval") - asked() == {"openai"}
    assert "openai" in others
