"""Fixtures that make tokenizers by kind, once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from server.prompts.tokenizer import PromptTokenizer
from tests.unit.prompts.support_tokenizers import write_kind


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Kind -> model directory."""
    return cache(lambda kind: write_kind(tmp_path_factory.mktemp("model") / kind, kind))


@pytest.fixture(scope="session")
def tokenizer_of(model_of: Callable[[str], Path]) -> Callable[[str], PromptTokenizer]:
    """Kind -> our tokenizer."""
    return cache(lambda kind: PromptTokenizer.from_directory(model_of(kind)))


@pytest.fixture(scope="session")
def reference_of(model_of: Callable[[str], Path]) -> Callable[[str], Tokenizer]:
    """Kind -> the same tokenizer as the tokenizers library reads it."""
    return cache(lambda kind: Tokenizer.from_file(str(model_of(kind) / "tokenizer.json")))
