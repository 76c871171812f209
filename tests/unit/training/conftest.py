"""Tokenizers of the kinds that matter, shared with the tests of the prompts."""

from __future__ import annotations

from tests.unit.prompts.support_fixtures import model_of, reference_of, tokenizer_of

__all__ = ["model_of", "reference_of", "tokenizer_of"]
