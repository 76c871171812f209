"""vLLM's errors to ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from server.errors import EngineDied, GenerationFailed, InvalidRequest


@contextlib.contextmanager
def translated(name: str, param: str | None, *, stopped: Callable[[], bool]) -> Iterator[None]:
    """Raise what vLLM raises within as an error of ours.

    Args:
        name: The engine's, for messages.
        param: The request's field that is to blame where vLLM names none.
        stopped: Whether the engine was stopped on purpose meanwhile.

    Raises:
        InvalidRequest: vLLM refuses the request's values.
        GenerationFailed: This request failed; others go on.
        EngineDied: The engine is gone.
    """
    # Imported late: see `vllm_values.sampling_params`.
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        yield
    except VLLMClientError as error:
        # str(error) repeats parameter and value in brackets; the message itself is plain.
        message = str(error.args[0] if error.args else error)
        raise InvalidRequest(message, param=getattr(error, "parameter", None) or param) from error
    except EngineDeadError as error:
        how = "was stopped" if stopped() else "ended unexpectedly"
        raise EngineDied(f"The engine of '{name}' {how}.") from error
    except EngineGenerateError as error:
        # Most often it has nothing to say.
        why = f": {error}" if str(error) else "."
        raise GenerationFailed(f"The engine failed on this request{why}") from error
