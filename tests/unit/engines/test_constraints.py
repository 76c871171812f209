"""Constraints as vLLM's, and what cannot be compiled."""

from __future__ import annotations

from typing import Any

import pytest

from server.engines.base import Constraint, SamplingSettings
from server.engines.constraints import check, structured_outputs
from server.engines.vllm_values import sampling_params
from server.errors import InvalidRequest
from tests.unit.prompts.support_tokenizers import CHATML_SPECIALS, byte_level, write_model

pytest.importorskip("vllm")
OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    path = tmp_path_factory.mktemp("tokenizer")
    write_model(path, byte_level(CHATML_SPECIALS), config={"model_type": "llama"})
    return AutoTokenizer.from_pretrained(str(path))


def test_schemas_end() -> None:
    outputs = structured_outputs(Constraint("json", OBJECT, "response_format"))
    assert outputs.json["additionalProperties"] is False
    assert outputs.json["x-guidance"]["whitespace_pattern"] == r"[\x20\n\r\t]{1,8}"
    assert "additionalProperties" not in OBJECT


def test_other_kinds_are_handed_on() -> None:
    assert structured_outputs(Constraint("regex", "a+", "x")).regex == "a+"
    assert structured_outputs(Constraint("choice", ["a"], "x")).choice == ["a"]


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("json", OBJECT, None),
        ("json", True, None),
        ("regex", "(a|b)+", None),
        ("choice", ["a", 'b"\n'], None),
        ("grammar", 'root ::= "a"', None),
        ("grammar", 'start: "a"', None),
        ("structural_tag", '{"type": "structural_tag", "format": {"type": "any_text"}}', None),
        ("json", {"not": {}}, 'The JSON schema cannot be compiled: Unimplemented keys: ["not"].'),
        (
            "json",
            {"$ref": "#/no"},
            "The JSON schema cannot be compiled: Pointer '/no' does not exist.",
        ),
        ("regex", "(", "The regular expression cannot be compiled: "),
        ("regex", "a\0", None),
        ("grammar", "nonsense", "The grammar cannot be compiled: "),
        ("structural_tag", '{"type": 5}', "The structural tag cannot be compiled: "),
    ],
)
def test_what_compiles(kind: Any, value: Any, message: str | None, tokenizer: Any) -> None:
    constraint = Constraint(kind, value, "here")
    params = sampling_params(SamplingSettings(max_tokens=9, constraint=constraint))
    if message is None:
        check(params, constraint, tokenizer)
        assert params.structured_outputs._backend == "xgrammar"
        return
    with pytest.raises(InvalidRequest) as caught:
        check(params, constraint, tokenizer)
    assert str(caught.value).startswith(message)
    assert caught.value.param == "here"
