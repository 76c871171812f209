"""The import contracts in pyproject.toml: that each really refuses what it is there to refuse."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# A server with one line per module, all of them allowed.
ALLOWED = {
    "__init__": "",
    "cli": "import server.app, uvicorn",
    "serve": "import server.app, uvicorn",
    "commands.__init__": "",
    "app": "import server.api.chat, fastapi",
    "settings": "import server.errors",
    "api.__init__": "import starlette",
    "api.chat": "import server.generation.service",
    "api.schemas.__init__": "",
    "api.schemas.chat": "import fastapi",
    "generation.__init__": "",
    "generation.service": "import server.registry.loader, server.prompts.formatter\n"
    "import server.engines.base",
    "registry.__init__": "",
    "registry.loader": "import server.errors",
    "prompts.__init__": "",
    "prompts.formatter": "import server.errors",
    "storage.__init__": "",
    "storage.database": "import server.errors, sqlalchemy, alembic, aiosqlite",
    "web.__init__": "",
    "web.site": "import server.errors",
    "engines.__init__": "",
    "engines.base": "import server.errors",
    "engines.vllm_engine": "import vllm.v1.engine.async_llm",
    "errors": "",
}

pytestmark = pytest.mark.skipif(not find_spec("importlinter"), reason="needs import-linter")


def lint(
    folder: Path,
    evaluation: str = "import openai",
    training: str = "import trl, server.prompts.formatter, server.registry.loader",
    **changed: str,
) -> subprocess.CompletedProcess[str]:
    """Run the contracts over the server above, with some modules' text replaced."""
    modules = ALLOWED | {name.replace("__", "."): text for name, text in changed.items()}
    for name, text in modules.items():
        path = folder / "server" / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    for package, text in (("evaluation", evaluation), ("training", training)):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(text + "\n")
    for module in ("cli", "recipe_loader", "job", "data"):
        (folder / "training" / f"{module}.py").touch()
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command"
    command = [sys.executable, "-c", f"{code}; lint_imports_command()", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_what_the_design_allows_passes(tmp_path: Path) -> None:
    done = lint(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "text", "contract"),
    [
        ("prompts__formatter", "import server.registry.loader", "flow one way"),
        ("registry__loader", "import server.engines.base", "flow one way"),
        ("engines__base", "import server.generation.service", "flow one way"),
        ("generation__service", "import server.api.chat", "flow one way"),
        ("api__chat", "import server.app", "flow one way"),
        ("errors", "import server.settings", "flow one way"),
        ("storage__database", "import server.engines.base", "flow one way"),
        ("storage__database", "import server.generation.service", "flow one way"),
        ("storage__database", "from starlette.types import Send", "HTTP is known"),
        ("storage__database", "import vllm", "vLLM is known"),
        ("web__site", "import server.storage.database", "flow one way"),
        ("web__site", "from starlette.responses import Response", "HTTP is known"),
        ("api__chat", "from sqlalchemy import select", "database's libraries"),
        ("generation__service", "import alembic", "database's libraries"),
        ("generation__service", "def f():\n    import vllm", "vLLM is known"),
        ("api__chat", "from vllm import SamplingParams", "vLLM is known"),
        ("generation__service", "from fastapi import Request", "HTTP is known"),
        ("engines__base", "from starlette.types import Send", "HTTP is known"),
        ("registry__loader", "import training.recipes", "knows nothing of training"),
        ("api__chat", "import evaluation", "knows nothing of training"),
    ],
)
def test_what_the_design_forbids_fails(
    module: str, text: str, contract: str, tmp_path: Path
) -> None:
    done = lint(tmp_path, **{module: text})
    assert done.returncode != 0
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert any(contract in line for line in broken), done.stdout


@pytest.mark.parametrize("text", ["import server.errors", "import training", "import vllm"])
def test_the_evaluation_knows_endpoints_alone(text: str, tmp_path: Path) -> None:
    done = lint(tmp_path, evaluation=text)
    assert done.returncode != 0
    assert "The evaluation knows endpoints, not the server BROKEN" in done.stdout


@pytest.mark.parametrize("text", ["import server.engines.base", "import evaluation", "import vllm"])
def test_the_training_knows_prompts_and_registry_alone(text: str, tmp_path: Path) -> None:
    done = lint(tmp_path, training=text)
    assert done.returncode != 0
    assert "The training knows prompts and registry, not the server BROKEN" in done.stdout
