"""The adapters that one ``AsyncLLM`` holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Collection
from typing import TYPE_CHECKING, Any

from server.engines.spec import Adapter, EngineSpec
from server.errors import AdapterFailed, GenerationFailed

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

# How soon the end of an engine is noticed that owes an answer.
_LOOK_EVERY_S = 0.2
_FAILURE = "Call to add_lora method failed: "


class VllmAdapters:
    """What an engine was told to load, so that it is never asked for anything else.

    A request for an adapter that vLLM cannot load ends the engine, where ``add_lora`` only raises.

    Args:
        spec: The engine's.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._loaded: dict[str, LoRARequest] = {}

    def request(self, adapter: Adapter | None) -> LoRARequest | None:
        """vLLM's word for an adapter that is loaded.

        Raises:
            GenerationFailed: It is not.
        """
        if adapter is None:
            return None
        try:
            return self._loaded[adapter.digest]
        except KeyError:
            message = f"The engine does not hold the adapter of '{adapter.name}'."
            raise GenerationFailed(message) from None

    async def load(self, llm: AsyncLLM, adapter: Adapter) -> None:
        """See `Engine.load_adapter`.

        Raises:
            EngineDeadError: The engine has ended.
        """
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.exceptions import EngineDeadError

        most = self._spec.max_adapter_rank
        if adapter.rank > most:
            raise AdapterFailed(
                adapter.name,
                f"The adapter of '{adapter.name}' has rank {adapter.rank}, and its engine was "
                f"started for ranks up to {most}. Set engine.max_adapter_rank: {adapter.rank} in "
                f"the entry of its base model, and have that loaded again.",
            )
        number = engine_id(adapter.digest, {request.lora_int_id for request in self.requests})
        # The prefix cache tells adapters apart by name and path (vllm/v1/core/kv_cache_utils.py,
        # _gen_lora_extra_hash_keys): the digest is their name.
        request = LoRARequest(f"sha256-{adapter.digest}", number, str(adapter.directory))
        try:
            await _while_alive(llm, llm.add_lora(request))
        except EngineDeadError:
            raise
        except Exception as error:
            # What failed half way may have taken a slot.
            with contextlib.suppress(EngineDeadError):
                await _while_alive(llm, llm.remove_lora(number))
            cause = str(error).removeprefix(_FAILURE) or type(error).__name__
            raise AdapterFailed(
                adapter.name, f"The adapter of '{adapter.name}' cannot be used: {cause}"
            ) from error
        self._loaded[adapter.digest] = request

    async def unload(self, llm: AsyncLLM, adapter: Adapter) -> None:
        """See `Engine.unload_adapter`.

        Raises:
            EngineDeadError: The engine has ended.
        """
        await _while_alive(llm, llm.remove_lora(self._loaded[adapter.digest].lora_int_id))
        del self._loaded[adapter.digest]

    @property
    def requests(self) -> Collection[LoRARequest]:
        """vLLM's words for all that is loaded."""
        return self._loaded.values()


def engine_id(digest: str, taken: Collection[int]) -> int:
    """The number that an engine knows an adapter by: 31 bits of its digest that no other has.

    vLLM keeps it in 32 bits with a sign (vllm/v1/worker/gpu/lora_utils.py).
    """
    windows = (digest[start : start + 8] for start in range(len(digest) - 7))
    numbers = (int(window, 16) & 0x7FFF_FFFF for window in windows)
    return next(number for number in numbers if number and number not in taken)


async def _while_alive(llm: AsyncLLM, call: Awaitable[Any]) -> Any:
    """The call's result. vLLM leaves calls without an answer when the engine ends meanwhile."""
    from vllm.v1.engine.exceptions import EngineDeadError

    task = asyncio.ensure_future(call)
    try:
        while not (await asyncio.wait([task], timeout=_LOOK_EVERY_S))[0]:
            if llm.errored:
                raise EngineDeadError
        return task.result()
    finally:
        task.cancel()
