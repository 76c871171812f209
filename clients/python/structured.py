"""Have an answer in the form of a pydantic model: the server lets no other text be written.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 python clients/python/structured.py "Describe Rome."

Reads OPENAI_BASE_URL and OPENAI_API_KEY (any value where the server needs none).
"""

import os
import sys
from typing import Annotated, Literal

from openai import OpenAI
from pydantic import BaseModel, Field

MODEL = "smollm2-135m-instruct"


class City(BaseModel):
    """A city. Limits keep a small model from writing on and on."""

    name: Annotated[str, Field(max_length=40)]
    country: Annotated[str, Field(max_length=40)]
    continent: Literal["Africa", "America", "Asia", "Australia", "Europe"]


def main() -> None:
    question = " ".join(sys.argv[1:]) or "What is the capital of France?"
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
    )
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        response_format=City,
        temperature=0,
        max_tokens=200,
    )
    city = answer.choices[0].message.parsed
    if city is None:
        sys.exit(f"No answer: {answer.choices[0].finish_reason}")
    print(f"{city.name}, {city.country} ({city.continent})")


if __name__ == "__main__":
    main()
