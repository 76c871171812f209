"""Chat in the terminal; the model sees the whole conversation. An empty line or Ctrl-D ends it.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python clients/python/terminal_chat.py

Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
"""

import os
from typing import Any

from openai import APIError, OpenAI

MODEL = "smollm2-135m-instruct"


def answer(client: OpenAI, history: list[Any]) -> str:
    """Print the answer as it comes, and return it."""
    stream = client.chat.completions.create(
        model=MODEL, messages=history, temperature=0, max_tokens=500, stream=True
    )
    text = ""
    for chunk in stream:
        piece = chunk.choices[0].delta.content or ""
        print(piece, end="", flush=True)
        text += piece
    print()
    return text


def main() -> None:
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    history: list[Any] = []
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            question = ""
        if not question:
            return
        history.append({"role": "user", "content": question})
        try:
            history.append({"role": "assistant", "content": answer(client, history)})
        except APIError as error:  # such as a conversation that has become too long
            print(f"({error.message})")
            history.pop()


if __name__ == "__main__":
    main()
