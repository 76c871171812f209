"""Ask several questions at once and print each answer when it is complete.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python clients/python/async_stream.py

Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
"""

import asyncio
import os
import sys

from openai import AsyncOpenAI

MODEL = "smollm2-135m-instruct"
QUESTIONS = [
    f"What is the capital of {country}? Answer in one sentence." for country in ("France", "Italy")
]


async def ask(client: AsyncOpenAI, question: str) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        stream=True,
    )
    parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    print(f"{question} {''.join(parts)}")


async def main() -> None:
    client = AsyncOpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    async with client:
        # The engine works on all of them together, for little more than the time of one.
        await asyncio.gather(*(ask(client, question) for question in sys.argv[1:] or QUESTIONS))


if __name__ == "__main__":
    asyncio.run(main())
