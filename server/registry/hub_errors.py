"""What the Hugging Face hub's client reports, said in plain words with a remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import SourceError
from server.registry.sources_schema import HubSource


@contextmanager
def hub_errors(source: HubSource) -> Iterator[None]:
    """Translate the hub client's errors; the disk's are left to the caller."""
    try:
        yield
    except Exception as error:
        message = _explain(source, error)
        if message is None:
            raise
        raise SourceError(message) from error


def _explain(source: HubSource, error: Exception) -> str | None:
    """What to say of an error, or None for one that is not the hub's or the network's."""
    from huggingface_hub import errors

    name = source.hub
    where = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    match error:
        case errors.GatedRepoError():
            return (
                f"{name} is gated: accept its licence at {where}/{name}, then set HF_TOKEN to a "
                "token of the account that did."
            )
        case errors.RepositoryNotFoundError():
            return (
                f"{name} was not found on the hub. Check its name; if it is private, set HF_TOKEN "
                "to a token that may read it."
            )
        case errors.RevisionNotFoundError():
            return f"{name} has no revision '{source.revision}'."
        case errors.HfHubHTTPError():
            return _status_message(name, error.response.status_code, error)
        case errors.HFValidationError():
            return f"{name}: {error}"
    return _unreachable(name, where, error) if _is_network_error(error) else None


def _is_network_error(error: Exception) -> bool:
    """Offline in one of the ways that the hub's client and its HTTP library report it."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return True
    if isinstance(error, OSError):
        # With another errno it is the disk's: full, read-only, no permission.
        return error.errno is None or isinstance(error, ConnectionError | TimeoutError)
    return type(error).__module__.startswith("http")


def _status_message(name: str, status: int, error: Exception) -> str:
    if status in (401, 403):
        return (
            f"The hub refuses access to {name} ({status}). Accept its licence on its page if it "
            "has one, and set HF_TOKEN to a token that may read it."
        )
    return f"The hub answered {status} for {name}. Try again later. It said: {error}"


def _unreachable(name: str, where: str, error: Exception) -> str:
    return (
        f"{name} is not in the cache, and {where} cannot be reached ({type(error).__name__}: "
        f"{error}). Check the network, or use a directory or package source. Files that "
        "have arrived whole are kept for the next attempt."
    )
