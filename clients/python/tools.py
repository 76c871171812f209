"""Let the model call a Python function, give it the result, and print its answer.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python clients/python/tools.py "Weather in Rome?"

Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
"""

import json
import os
import sys
from typing import Any

from openai import OpenAI

MODEL = "smollm2-135m-instruct"
MOST_ROUNDS = 4
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city right now.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 40}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


def get_weather(city: str) -> str:
    """A real program would ask a weather service here."""
    return json.dumps({"city": city, "weather": "sunny", "celsius": 21})


def main() -> None:
    question = " ".join(sys.argv[1:]) or "What is the weather in Paris?"
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    messages: list[Any] = [{"role": "user", "content": question}]
    for number in range(MOST_ROUNDS):
        answer = client.chat.completions.create(
            model=MODEL,
            messages=messages,
            tools=TOOLS,
            # A small model does not see by itself when to call; larger ones take "auto" throughout.
            tool_choice="none" if number else "required",
            temperature=0,
            max_tokens=200,
        )
        message = answer.choices[0].message
        if not message.tool_calls:
            print(message.content)
            return
        messages.append(message)
        for call in message.tool_calls:
            result = get_weather(**json.loads(call.function.arguments))
            print(f"{call.function.name}({call.function.arguments}) -> {result}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


if __name__ == "__main__":
    main()
