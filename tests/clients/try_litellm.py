"""litellm: an answer, a stream, a tool call."""

from __future__ import annotations

import os

import litellm

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 40}},
            "required": ["city"],
        },
    },
}
common = {
    "model": "openai/" + os.environ["MODEL"],
    "api_base": os.environ["OPENAI_BASE_URL"],
    "temperature": 0,
    "max_tokens": 60,
}
asked = [{"role": "user", "content": "Write one sentence about Paris."}]
answer = litellm.completion(messages=asked, **common)
print("answer:", answer.choices[0].message.content)
stream = litellm.completion(messages=asked, stream=True, **common)
text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
called = litellm.completion(messages=asked, tools=[TOOL], tool_choice="required", **common)
print("tool:", called.choices[0].message.tool_calls)
assert text == answer.choices[0].message.content
assert called.choices[0].message.tool_calls[0].function.name == "get_weather"
