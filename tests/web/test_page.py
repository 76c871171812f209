"""The chat page's sources: their own tests, their types, and that the page is made of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.web import (
    BRING,
    SOURCES,
    copy_of_sources,
    is_current,
    run_program,
    why_no_packages,
)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The sources with their packages."""
    if reason := why_no_packages():
        pytest.skip(reason)
    return copy_of_sources(tmp_path / "web")


def test_the_page_that_is_served_is_made_of_these_sources() -> None:
    if reason := why_no_packages():
        pytest.skip(reason)
    # Where packages are, there was a network: a page that does not build is a mistake of ours.
    assert is_current(), f"the chat page is another one: {BRING}"


def test_its_own_tests(page: Path) -> None:
    output = run_program("vitest/vitest.mjs", "run", cwd=page)
    (files,) = re.findall(r"Test Files +(\d+) passed \((\d+)\)", output)
    assert files[0] == files[1] == str(len(list(SOURCES.glob("tests/**/*.test.ts")))), output


def test_its_types(page: Path) -> None:
    assert run_program("vue-tsc/bin/vue-tsc.js", "--noEmit", cwd=page) == ""
