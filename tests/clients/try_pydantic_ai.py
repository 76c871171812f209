"""pydantic-ai: a text, and an object in the server's own structured output."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel


class City(BaseModel):
    name: Annotated[str, Field(max_length=40)]
    country: Annotated[str, Field(max_length=40)]


# base_url and api_key come from OPENAI_BASE_URL and OPENAI_API_KEY
model = OpenAIChatModel(os.environ["MODEL"])
settings = {"temperature": 0, "max_tokens": 100}
text = Agent(model, model_settings=settings).run_sync("Write one sentence about Paris.").output
print("text:", text)
agent = Agent(model, output_type=NativeOutput(City), model_settings=settings)
city = agent.run_sync("Describe Paris.").output
print("object:", city)
tool_agent = Agent(model, output_type=City, model_settings=settings)
print("object by a tool:", tool_agent.run_sync("Describe Paris.").output)
assert text
assert isinstance(city, City)
