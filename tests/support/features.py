"""Every feature of the answering endpoints as tables, for both official SDKs.

Plain values, so that they can be handed to Node as JSON. A feature is asked whole and streamed, and
both must have the same summary (`tests.support.summaries`), in which what it expects is looked for.
"""

from __future__ import annotations

from tests.e2e.harness import CAPITAL, PARIS
from tests.support.feature import (
    ABOUT_NOTHING,
    ALLOWED,
    ASKED,
    CALL,
    CALLED,
    CITY,
    FLAT,
    IDS,
    NAME_ME,
    NAMED,
    NESTED,
    PENALTIES,
    PLACE,
    SAMPLED,
    TOKENS,
    chat,
    response,
    said,
    schema_format,
    text,
)

CITY_FORMAT = {"name": "city", "schema": CITY, "strict": True}
ANSWERED = {"texts": [PARIS], "finish": ["stop"]}
CUT = {"texts": ["The capital of"], "finish": ["length"], "completion_tokens": 3}
ONE_CALL = {"texts": [""], "called": [["get_weather"]], "schema": PLACE}

CHAT = (
    chat("an answer", ANSWERED | {"completion_tokens": 8}),
    chat("sampling", seed=11, **SAMPLED, **PENALTIES),
    chat("several choices", {"count": 3}, n=3, seed=3, temperature=1, max_tokens=12),
    chat("one stop string", {"texts": ["The capital of "], "finish": ["stop"]}, stop="France"),
    chat("several stop strings", {"texts": ["The capital"]}, stop=["zzz", " of", "France"]),
    chat("max_tokens", CUT, max_tokens=3),
    chat("max_completion_tokens", CUT, max_completion_tokens=3),
    chat(
        "logprobs",
        {
            "tokens": [["The", " capital", " of", " France", " is", " Paris", ".", "<|im_end|>"]],
            "top": 0,
        },
        logprobs=True,
    ),
    chat("top_logprobs", {"top": 3}, logprobs=True, top_logprobs=3, max_tokens=4),
    chat("logit_bias", {"texts": ["TheTheThe"]}, logit_bias={"504": 100}, max_tokens=3),
    chat("text as the form", ANSWERED, response_format={"type": "text"}),
    chat(
        "json_object",
        {"schema": {"type": "object"}, "finish": ["stop"]},
        messages=[said('Answer with the JSON object {"city": "Paris"} and nothing else.')],
        response_format={"type": "json_object"},
    ),
    chat(
        "json_schema",
        {"schema": CITY, "finish": ["stop"]},
        messages=[said("Describe Paris in JSON.")],
        response_format=schema_format(json_schema=CITY_FORMAT),
        max_tokens=90,
    ),
    chat("tools, auto", {"count": 1}, messages=ASKED, tools=NESTED, tool_choice="auto"),
    chat("tools, none", {"called": [[]]}, messages=ASKED, tools=NESTED, tool_choice="none"),
    chat(
        "tools, required",
        {"finish": ["tool_calls"], "schema": PLACE},
        messages=ASKED,
        tools=NESTED,
        tool_choice="required",
        parallel_tool_calls=True,
        max_tokens=200,
    ),
    chat(
        "tools, one call",
        ONE_CALL | {"finish": ["tool_calls"]},
        messages=ASKED,
        tools=NESTED[:1],
        tool_choice="required",
        parallel_tool_calls=False,
    ),
    chat(
        "tools, named",
        ONE_CALL | {"called": [["get_time"]], "finish": ["stop"]},
        messages=ASKED,
        tools=NESTED,
        tool_choice=NAMED,
    ),
    chat(
        "tools, allowed",
        {"called": [["get_time"]], "finish": ["tool_calls"], "schema": PLACE},
        messages=ASKED,
        tools=NESTED,
        tool_choice={"type": "allowed_tools", "allowed_tools": ALLOWED},
        parallel_tool_calls=False,
    ),
    chat(
        "a tool's result", {"called": [[]]}, messages=CALLED, tools=NESTED[:1], tool_choice="none"
    ),
    chat(
        "developer and system",
        ANSWERED,
        messages=[
            {"role": "developer", "content": "You are a helpful AI assistant named SmolLM."},
            said(CAPITAL, name="anna"),
        ],
    ),
    chat(
        "content parts",
        ANSWERED,
        messages=[said(CAPITAL) | {"content": [{"type": "text", "text": CAPITAL}]}],
    ),
    chat("earlier turns", {"count": 1}, messages=[*NAME_ME, said("What is my name?")]),
    chat("what concerns no text", ANSWERED, store=False, **ABOUT_NOTHING),
    chat("reasoning_effort", {"count": 1}, reasoning_effort="low", max_tokens=4),
    chat(
        "vLLM's fields",
        {"completion_tokens": 12, "finish": ["length"]},
        extra={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True},
        max_tokens=12,
    ),
    chat(
        "a regex",
        {"schema": {"type": "integer", "minimum": 100}, "completion_tokens": 4},
        extra={"structured_outputs": {"regex": "[1-9][0-9]{2}"}},
    ),
)

COMPLETIONS = (
    text("a text", {"count": 1, "completion_tokens": 8, "finish": ["length"]}),
    text("several texts", {"count": 2}, prompt=["The sky is", "One, two, three,"]),
    text("token ids", {"texts": [" Paris."]}, prompt=IDS, max_tokens=2),
    text(
        "several lists of ids",
        {"texts": [" Paris", " is"]},
        prompt=[IDS, IDS[:4]],
        max_tokens=1,
    ),
    text("sampling", seed=5, **SAMPLED, **PENALTIES),
    text("several choices", {"count": 2}, n=2, seed=5, temperature=1, best_of=2),
    text("stop", {"texts": [" Paris"], "finish": ["stop"]}, prompt=IDS, stop=["."]),
    text("logprobs", {"top": 2}, logprobs=2, max_tokens=4),
    text("echo", {"count": 1}, echo=True),
    text(
        "echo with scores",
        {"tokens": [[*TOKENS, " Paris"]]},
        prompt="The capital of France is",
        echo=True,
        logprobs=1,
        max_tokens=1,
    ),
    text(
        "scores alone",
        {"texts": ["The capital of France is"], "completion_tokens": 0},
        prompt=IDS,
        echo=True,
        logprobs=1,
        max_tokens=0,
    ),
    text("logit_bias", {"texts": ["TheTheThe"]}, logit_bias={"504": 100}, max_tokens=3),
    text("what concerns no text", {"count": 1}, user="u"),
    text("a choice", {"texts": ["blue"]}, extra={"structured_outputs": {"choice": ["blue"]}}),
)

INCOMPLETE = {"finish": ["max_output_tokens"], "completion_tokens": 3, "texts": ["The capital of"]}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "Sunny, 21 degrees."}
DONE = {"texts": [PARIS], "finish": ["completed"]}

RESPONSES = (
    response("a text", DONE | {"completion_tokens": 8}),
    response(
        "items",
        DONE,
        input=[
            {"role": "developer", "content": "You are a helpful AI assistant named SmolLM."},
            said("") | {"content": [{"type": "input_text", "text": CAPITAL}]},
        ],
    ),
    response("earlier turns", {"count": 1}, input=[*NAME_ME, said("What is my name?")]),
    response("instructions", {"finish": ["completed"]}, instructions="Answer in one word."),
    response("max_output_tokens", INCOMPLETE, max_output_tokens=3),
    response("sampling", extra={"seed": 11}, **SAMPLED),
    response(
        "logprobs",
        {"top": 2},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        max_output_tokens=4,
    ),
    response("text as the form", DONE, text={"format": {"type": "text"}}),
    response(
        "json_schema",
        {"schema": CITY, "finish": ["completed"]},
        input="Describe Paris in JSON.",
        text={"format": schema_format(**CITY_FORMAT)},
        max_output_tokens=90,
    ),
    response(
        "json_object",
        {"schema": {"type": "object"}},
        input='Answer with the JSON object {"city": "Paris"} and nothing else.',
        text={"format": {"type": "json_object"}},
    ),
    response("tools, auto", {"count": 1}, input=ASKED, tools=FLAT),
    response("tools, none", {"called": [[]]}, input=ASKED, tools=FLAT, tool_choice="none"),
    response(
        "tools, one call",
        ONE_CALL | {"finish": ["completed"]},
        input=ASKED,
        tools=FLAT[:1],
        tool_choice="required",
        parallel_tool_calls=False,
    ),
    response(
        "tools, named",
        ONE_CALL | {"called": [["get_time"]]},
        input=ASKED,
        tools=FLAT,
        tool_choice={"type": "function", "name": "get_time"},
    ),
    response(
        "a tool's result",
        {"called": [[]]},
        input=[
            *ASKED,
            {"type": "function_call", "call_id": "call_1"} | CALL["function"],
            OUTPUT,
        ],
        tools=FLAT[:1],
        tool_choice="none",
    ),
    response(
        "vLLM's fields",
        {"completion_tokens": 12, "finish": ["max_output_tokens"]},
        extra={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True},
        max_output_tokens=12,
    ),
    response("not stored", DONE, store=False),
    response("truncation", DONE, truncation="auto"),
    response("what concerns no text", DONE, **ABOUT_NOTHING),
)

FEATURES = (*CHAT, *COMPLETIONS, *RESPONSES)
