"""Reading weights without holding them twice.

vLLM maps the weight files into memory and copies each tensor into the model. What was mapped stays
counted as the process's own until the file is closed: while it loads, an engine would look twice as
large as its weights. So the pages of each tensor are let go as soon as the next one is asked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from vllm.model_executor.model_loader import default_loader

Weights: TypeAlias = "Iterator[tuple[str, Any]]"
_MAPS = Path("/proc/self/maps")
_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@contextlib.contextmanager
def let_go_when_read() -> Iterator[None]:
    """Have vLLM's loader of safetensors do so meanwhile."""
    original = default_loader.safetensors_weights_iterator
    default_loader.safetensors_weights_iterator = _letting_go(original)
    try:
        yield
    finally:
        default_loader.safetensors_weights_iterator = original


def _letting_go(read: Callable[..., Weights]) -> Callable[..., Weights]:
    def weights(*args: Any, **kwargs: Any) -> Weights:
        mapped = range(0)
        for name, tensor in read(*args, **kwargs):
            yield name, tensor
            start = tensor.data_ptr()
            if start not in mapped:
                mapped = _mapped_weights(start)
            if start in mapped:
                _let_go(start, tensor.nbytes)

    return weights


def _mapped_weights(address: int) -> range:
    """Addresses of the mapped weight file that ``address`` lies in; none where it lies elsewhere,
    for there letting go would be losing."""
    for line in _MAPS.read_text().splitlines():
        first, _, last = line.split(" ", 1)[0].partition("-")
        addresses = range(int(first, 16), int(last, 16))
        if address in addresses:
            return addresses if line.endswith(".safetensors") else range(0)
    return range(0)


def _let_go(start: int, size: int) -> None:
    """Only whole pages, for its neighbours begin on the others."""
    page = mmap.PAGESIZE
    first, end = -(-start // page) * page, (start + size) // page * page
    if end > first:
        _madvise(first, end - first, mmap.MADV_DONTNEED)
