"""OpenAI's errors in our words."""

from __future__ import annotations

from typing import Any

import openai

from evaluation.errors import EndpointError, KeyRefused, ModelMissing, RequestRefused


class NoSuchPath(EndpointError):
    """404 or 405, and no model is named in it."""


def translated(error: openai.OpenAIError, base_url: str) -> Exception:
    """What went wrong, for those who typed the address."""
    match error:
        case openai.APIStatusError():
            return _of_status(error, base_url)
        case openai.APITimeoutError():
            return EndpointError(f"{base_url} did not answer in time")
        case openai.APIConnectionError():
            return EndpointError(f"nobody answers at {base_url} ({error.__cause__ or error})")
        case _:
            return EndpointError(f"{base_url}: {error}")


def _of_status(error: openai.APIStatusError, base_url: str) -> Exception:
    said = _said(error)
    match error.status_code:
        case 401 | 403:
            return KeyRefused(
                f"{base_url} refuses the key ({said}). Set OPENAI_API_KEY or --api-key."
            )
        case 404 if _names_model(error):
            return ModelMissing(f"{base_url}: {said}")
        case 404 | 405:
            return NoSuchPath(f"{base_url}: {said}")
        case 400 | 413 | 422:
            return RequestRefused(said)
        case _:
            return EndpointError(f"{base_url} answers {error.status_code}: {said}")


def _error_object(error: openai.APIStatusError) -> dict[str, Any]:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    return body if isinstance(body, dict) else {}


def _said(error: openai.APIStatusError) -> str:
    return str(_error_object(error).get("message") or error.message or error.response.text)[:300]


def _names_model(error: openai.APIStatusError) -> bool:
    told = _error_object(error)
    return told.get("code") == "model_not_found" or "model" in str(told.get("message", "")).lower()
