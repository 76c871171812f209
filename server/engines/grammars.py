"""Two grammar compilers in one engine, chosen by what is to be compiled.

Callers' own schemas, regular expressions and grammars go to llguidance: it works lazily and gives
up where they cost too much. xgrammar has no such limit: ``(.?){100}`` keeps it busy for a second a
token, and every other stream with it. But it alone understands what vLLM's parsers make for tool
calls, and callers' structural tags; in these, expressions are limited beforehand.

vLLM 0.32 knows one compiler an engine, that of its first request (``StructuredOutputManager``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def install() -> None:
    """Have this process, an engine's, use both; before the engine is made."""
    from vllm.v1.structured_output.backend_types import StructuredOutputOptions
    from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend

    compile_with_xgrammar = XgrammarBackend.compile_grammar

    @wraps(compile_with_xgrammar)
    def compile_grammar(
        self: Any, request_type: Any, grammar_spec: str, stop_token_ids: set[int] | None = None
    ) -> Any:
        tag = request_type == StructuredOutputOptions.STRUCTURAL_TAG
        if tag or not is_lazy(self.tokenizer):
            return compile_with_xgrammar(self, request_type, grammar_spec, stop_token_ids)
        return _lazily(self, request_type, grammar_spec)

    XgrammarBackend.compile_grammar = compile_grammar


def is_lazy(tokenizer: Any) -> bool:
    """Whether llguidance can be used with a tokenizer of vLLM's."""
    from vllm.v1.structured_output.backend_guidance import GuidanceBackend

    supported: bool = GuidanceBackend.is_tokenizer_supported(tokenizer)
    return supported


def _lazily(backend: Any, request_type: Any, grammar_spec: str) -> Any:
    from vllm.v1.structured_output.backend_guidance import GuidanceBackend

    if not hasattr(backend, "lazy"):
        backend.lazy = GuidanceBackend(
            backend.vllm_config, tokenizer=backend.tokenizer, vocab_size=backend.vocab_size
        )
    grammar = backend.lazy.compile_grammar(request_type, grammar_spec)
    if grammar.ll_matcher.is_error():
        raise ValueError(grammar.ll_matcher.get_error())
    grammar.accept_tokens = _unless_failed(grammar)
    return grammar


def _unless_failed(grammar: Any) -> Callable[[str, list[int]], bool]:
    """As vLLM's, but a matcher that gave up ends the request with an error.

    vLLM would take the EOS that such a matcher asks for as the answer's proper end.
    """
    accept = grammar.accept_tokens

    def accept_tokens(request_id: str, tokens: list[int]) -> bool:
        failed = grammar.ll_matcher.is_error()
        return bool(accept(request_id, tokens)) and not failed

    return accept_tokens
