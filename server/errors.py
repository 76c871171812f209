"""Every failure Corral raises on purpose, without a word of HTTP.

``api.error_handlers`` translates each class once, at the edge, into OpenAI's error envelope.

The tree::

    CorralError
    ├── InvalidRequest              the caller's mistake; names the field and the remedy
    │   ├── UnsupportedField        a field of the API that this server does not obey
    │   └── ContextLengthExceeded   prompt + completion do not fit the model's context
    ├── ModelNotFound               no registry entry has this id or alias
    ├── AdapterNotFound             there is no adapter where, or of the name that, somebody says
    ├── ObjectNotFound              nothing of this id is stored for the caller
    ├── ModelUnavailable            the model exists but cannot answer now
    │   ├── ModelLoading            it is still being loaded
    │   ├── ModelFailed             it could not be loaded, or died and was not revived
    │   ├── ModelEvicted            it had to make room for another one
    │   └── ModelUnloaded           an operator unloaded it while the request waited for it
    │   └── AdapterFailed           its adapter cannot be used; its base and other adapters can
    ├── Overloaded                  too much work is queued; try again later
    ├── ServerStopping              the time to finish running answers is over
    ├── GenerationFailed            one request failed inside a healthy engine
    ├── EngineDied                  the engine's process ended or stopped answering
    ├── StorageFailed               the database cannot be read or written now
    ├── RegistryError               model_registry.yaml is wrong; carries every problem at once
    └── SourceError                 model files could not be fetched, verified or prepared
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CorralError(Exception):
    """Base of every error raised on purpose. ``str(error)`` is fit for the user's eyes."""


class InvalidRequest(CorralError):
    """The request is wrong and will be wrong again.

    Args:
        message: What is wrong and how to mend it, in one or two sentences.
        param: Dotted path of the offending field (``messages.0.content``), or None.
        code: OpenAI's machine-readable code where one exists, or None.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnsupportedField(InvalidRequest):
    """A field of OpenAI's or vLLM's API that is known here and refused rather than ignored."""


def _either(names: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b, or c``."""
    if len(names) < 3:
        return " or ".join(names)
    return f"{', '.join(names[:-1])}, or {names[-1]}"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and completion together exceed the model's context.

    Args:
        limit: The context length of the model, in tokens.
        prompt_tokens: Length of the rendered prompt, in tokens.
        completion_tokens: Tokens asked for the completion, or None when it was left open.
        tool_tokens: How many of the prompt's describe tools, which a user may never have seen.
        param: The request field that holds the prompt.
    """

    def __init__(
        self,
        *,
        limit: int,
        prompt_tokens: int,
        completion_tokens: int | None = None,
        tool_tokens: int = 0,
        param: str = "messages",
    ) -> None:
        shares = {param: prompt_tokens - tool_tokens}
        if tool_tokens:
            shares["tools"] = tool_tokens
        if completion_tokens is None:
            asked = f"your {param} resulted in {prompt_tokens} tokens"
        else:
            asked = f"you requested {prompt_tokens + completion_tokens} tokens"
            shares["completion"] = completion_tokens
        if len(shares) > 1:
            asked += f" ({', '.join(f'{size} in the {name}' for name, size in shares.items())})"
        super().__init__(
            f"This model's maximum context length is {limit} tokens. However, {asked}. "
            f"Please reduce the length of the {_either([*shares])}.",
            param=param,
            code="context_length_exceeded",
        )
        self.limit = limit
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.tool_tokens = tool_tokens


class ModelNotFound(CorralError):
    """No registry entry has this id or alias.

    Args:
        model: The name the caller asked for.
    """

    def __init__(self, model: str) -> None:
        super().__init__(
            f"The model '{model}' does not exist or you do not have access to it. "
            "GET /v1/models lists the models of this server."
        )
        self.model = model


class AdapterNotFound(CorralError):
    """An operator named an adapter that is not there."""


class ObjectNotFound(CorralError):
    """Nothing of this kind and id is stored, or it belongs to somebody else.

    Args:
        kind: ``Response``, ``Conversation``, ``Item``, ``Chat`` or ``Message``.
        number: The id that was asked for.
    """

    def __init__(self, kind: str, number: str) -> None:
        super().__init__(f"{kind} with id '{number}' not found.")
        self.kind = kind
        self.number = number


class ModelUnavailable(CorralError):
    """The model exists but cannot answer now.

    Args:
        model: The registry id.
        message: What the caller should know.
        retry_after: Seconds after which a retry makes sense, or None when it never does.
    """

    def __init__(self, model: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.retry_after = retry_after


class ModelLoading(ModelUnavailable):
    """The model is still being loaded and the caller did not want to wait longer."""


class ModelFailed(ModelUnavailable):
    """The model could not be loaded, or its engine died and was not revived."""


class ModelEvicted(ModelUnavailable):
    """The model was unloaded under a running request, to make room for another one.

    Args:
        model: The registry id.
    """

    def __init__(self, model: str) -> None:
        super().__init__(
            model,
            f"The model '{model}' had to make room for another one before this answer was whole. "
            "Send it again.",
            retry_after=1.0,
        )


class ModelUnloaded(ModelUnavailable):
    """The load that a request waited for was ended by an operator.

    Args:
        model: The registry id.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model, f"The model '{model}' was unloaded by an operator.", retry_after=5)


class AdapterFailed(ModelUnavailable):
    """The model's adapter cannot be used; the model that it is for, and its engine, go on."""


class Overloaded(CorralError):
    """Too much work is queued.

    Args:
        message: Which limit was reached.
        retry_after: Seconds after which a retry makes sense.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerStopping(CorralError):
    """The server is stopping, and the time it gives running answers to finish is over."""

    def __init__(self) -> None:
        super().__init__("The server is stopping and could not finish this answer. Send it again.")


class GenerationFailed(CorralError):
    """One request failed inside an engine that goes on serving others."""


class EngineDied(CorralError):
    """The engine's process ended or stopped answering while it was needed."""


class StorageFailed(CorralError):
    """The database cannot be read or written now; what needs none goes on.

    Args:
        what: Why, in a sentence.
        advice: What the caller can do about it, or "".
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what} {advice}".rstrip())
        self.what = what


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a registry file.

    Args:
        where: ``path/to/model_registry.yaml:12`` (line numbers start at 1).
        field: Dotted path inside the file, such as ``models.0.context.length``.
        message: What is wrong and how to mend it.
    """

    where: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field}: {self.message}"


class RegistryError(CorralError):
    """The registry file is wrong.

    Args:
        problems: Every mistake found, in the order of the file; never empty.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class SourceError(CorralError):
    """Model files could not be fetched, verified or prepared; the cache holds no half model."""
