"""The first `make serve`, on a clone whose Makefile starts a stand-in for the server."""

import argparse
import shutil
from pathlib import Path

import pytest

from benchmarks import first_serve
from benchmarks.errors import BenchError
from benchmarks.options import Session
from tests.unit.benchmarks.support_fake_server import HTTP

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")

REGISTRY = "version: 1\nmodels:\n  - {id: m, source: {directory: weights}}\n"
# As the real one: make stays, the server is its child and has the last word about the port.
MAKEFILE = """
serve:
\t@mkdir -p .venv "$$XDG_CACHE_HOME/corral" && test -z "$$VIRTUAL_ENV"
\t@python3 fake.py $(EXTRA) --port $(PORT)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "fake.py").write_text(HTTP)
    (folder / "Makefile").write_text(MAKEFILE)
    (folder / "model_registry.yaml").write_text(REGISTRY)
    return folder


def session(clone: Path, logs: Path) -> Session:
    options = argparse.Namespace(
        clone=clone, make_args="EXTRA=more", model=None, port=None, timeout=20.0
    )
    return Session(options, logs)


def test_time_memory_and_answer_are_reported(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    found = first_serve.measure(session(clone, tmp_path))
    assert found.missed == []
    assert found.table[-1] == ["the answer", '"Paris"']
    (raw,) = found.runs
    assert 0 < raw["accepted_s"] <= raw["first_token_s"] < 20
    assert 0 < raw["peak"]["pss"] <= raw["peak"]["rss"]
    assert str(tmp_path) not in str(found)


def test_a_clone_that_was_served_before_is_refused(clone: Path, tmp_path: Path) -> None:
    (clone / ".venv").mkdir()
    with pytest.raises(BenchError, match=r"has a \.venv already"):
        first_serve.measure(session(clone, tmp_path))
