"""Ask one question and print the answer.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python clients/python/chat.py "Who wrote Hamlet?"

Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
"""

import os
import sys

from openai import OpenAI

MODEL = "smollm2-135m-instruct"


def main() -> None:
    question = " ".join(sys.argv[1:]) or "What is the capital of France? Answer in one sentence."
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        temperature=0,
    )
    print(answer.choices[0].message.content)


if __name__ == "__main__":
    main()
