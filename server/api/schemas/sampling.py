"""Sampling values that a caller may send and a chat may keep."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

_INT64 = 2**63
# Scores are divided by it: much less would make infinities of them.
RepetitionPenalty = Annotated[float, Field(ge=0.01, le=10, allow_inf_nan=False)]


class SamplingFields(BaseModel):
    """Left out or null: the registry's value, else OpenAI's default."""

    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)] | None = None
    repetition_penalty: RepetitionPenalty | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
