"""Tokenizers of the kinds that matter, and a tiny model to train."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.prompts.support_fixtures import model_of, reference_of, tokenizer_of

__all__ = ["model_of", "ranch", "reference_of", "tokenizer_of"]


@pytest.fixture(scope="session")
def ranch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry over a tiny model."""
    # Imported here: tests of data and recipes need no torch.
    from tests.unit.training.support_model import REGISTRY, write_tiny

    folder = tmp_path_factory.mktemp("ranch")
    write_tiny(folder / "tiny")
    (folder / "model_registry.yaml").write_text(REGISTRY)
    return folder
