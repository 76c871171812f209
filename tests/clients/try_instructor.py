"""instructor: an object, through tools and through a JSON schema."""

from __future__ import annotations

import os
from typing import Annotated

import instructor
from openai import OpenAI
from pydantic import BaseModel, Field


class City(BaseModel):
    name: Annotated[str, Field(max_length=40)]
    country: Annotated[str, Field(max_length=40)]


for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_openai(OpenAI(), mode=mode)
    city = client.chat.completions.create(
        model=os.environ["MODEL"],
        messages=[{"role": "user", "content": "Describe Paris."}],
        response_model=City,
        temperature=0,
        max_tokens=200,
        max_retries=0,
    )
    print(f"{mode.name}: {city}")
    assert isinstance(city, City)
