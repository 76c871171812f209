"""Our constraints to vLLM's, and whether an engine can keep them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from server.engines import grammars
from server.engines.base import Constraint
from server.engines.bounded_schema import closed
from server.errors import InvalidRequest

# Longest run of white space in JSON: enough to indent it, too little for a model to lose itself in.
MOST_WHITE_SPACE: Final = 8
# llguidance's own options for a schema. It keeps to a "oneOf" as to an "anyOf", as others do.
_JSON_OPTIONS: Final = {
    "whitespace_flexible": True,
    "whitespace_pattern": rf"[\x20\n\r\t]{{1,{MOST_WHITE_SPACE}}}",
    "coerce_one_of": True,
}
_NAMES: Final = {
    "json": "JSON schema",
    "regex": "regular expression",
    "choice": "list of choices",
    "grammar": "grammar",
    "structural_tag": "structural tag",
}
# Where in its own source xgrammar found a mistake.
_XGRAMMAR_PLACE: Final = re.compile(r"^\[[\d:]+\] \S+:\d+: ")
_LONGEST_REASON: Final = 300


def structured_outputs(constraint: Constraint) -> Any:
    """vLLM's ``StructuredOutputsParams`` of a constraint; `check` them before an engine does.

    Raises:
        VLLMClientError: vLLM refuses it.
    """
    from vllm.sampling_params import StructuredOutputsParams

    value = constraint.value
    if constraint.kind == "json":
        schema = closed(value) if isinstance(value, Mapping) else {}
        value = {**schema, "x-guidance": _JSON_OPTIONS}
    return StructuredOutputsParams(**{constraint.kind: value})


def check(params: Any, constraint: Constraint, tokenizer: Any) -> None:
    """Parse the grammar of ``SamplingParams``; takes up to a second, without holding the GIL.

    vLLM would do so itself, on the event loop.

    Raises:
        InvalidRequest: It cannot be compiled.
    """
    from vllm.v1.structured_output.backend_guidance import validate_guidance_grammar
    from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

    outputs = params.structured_outputs
    lazy = outputs.structural_tag is None and grammars.is_lazy(tokenizer)
    try:
        (validate_guidance_grammar if lazy else validate_xgrammar_grammar)(params)
    except Exception as error:
        raise not_compiled(constraint, error) from error
    # What an engine begins with; `grammars` chooses for each request.
    outputs._backend = "xgrammar"


def not_compiled(constraint: Constraint, error: Exception) -> InvalidRequest:
    """For a grammar that is none, in the words of a compiler's error."""
    return InvalidRequest(
        f"The {_NAMES[constraint.kind]} cannot be compiled: {_reason(error)}.",
        param=constraint.param,
    )


def not_kept(constraint: Constraint) -> InvalidRequest:
    """For a grammar that parses, and that an engine cannot begin or go on with."""
    return InvalidRequest(
        f"The {_NAMES[constraint.kind]} cannot be kept to by this model: it is too complex, or no "
        "answer fits it.",
        param=constraint.param,
    )


def _reason(error: Exception) -> str:
    """The first line of what a compiler says, without where in its source it stood."""
    said = str(error.args[0] if error.args else error)
    cause = error.__cause__
    while cause is not None:
        said, cause = str(cause), cause.__cause__
    lines = said.strip().splitlines() or [type(error).__name__]
    text = _XGRAMMAR_PLACE.sub("", lines[0]).removeprefix("Grammar error: ")
    return text[:_LONGEST_REASON].strip().rstrip(".:")
