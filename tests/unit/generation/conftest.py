"""The test tokenizers, shared with the prompts' tests."""

from tests.unit.prompts.support_fixtures import model_of, reference_of, tokenizer_of

__all__ = ["model_of", "reference_of", "tokenizer_of"]
