"""langchain-openai: a stream, a tool call, a structured answer."""

from __future__ import annotations

import os
from typing import Annotated

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field


class City(BaseModel):
    name: Annotated[str, Field(max_length=40)]


@tool
def get_weather(city: Annotated[str, Field(max_length=40)]) -> str:
    """The weather in a city right now."""
    return f"It is sunny in {city}."


# base_url and api_key come from OPENAI_BASE_URL and OPENAI_API_KEY
model = ChatOpenAI(model=os.environ["MODEL"], temperature=0, max_completion_tokens=60)
chunks = list(model.stream("Write one sentence about Paris."))
print("stream:", "".join(str(chunk.content) for chunk in chunks))
bound = model.bind_tools([get_weather], tool_choice="get_weather")
calls = bound.invoke("What is the weather in Paris?").tool_calls
print("tool:", calls)
city = model.with_structured_output(City, method="json_schema").invoke("Name a city.")
print("structured:", city)
assert len(chunks) > 2
assert calls[0]["name"] == "get_weather"
assert isinstance(city, City)
