"""GGUF → a folder of bfloat16 safetensors with config and tokenizer. Runs in a child process.

``python -m server.registry.convert MODEL.gguf TARGET_FOLDER`` writes one JSON object a line to
stdout: ``{"stage": …, "total": …, "unit": …}`` begins a stage, ``{"advance": n}`` moves it,
``{"error": …, "disk_full": …, …}`` is a failure's last line. ``conversion.py`` is the other end.

A process of its own because tensor work leaves OpenMP threads behind, after which a process can't
fork engines safely, and because its memory goes back to the system with it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import stat
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

# Counted up with each change that makes something else of the same file: models that an earlier
# converter made are then converted anew.
CONVERTER_VERSION = 1
# Titles that transformers gives its bars, and what they are here. Bars with other titles are
# not shown: a stage without a bar is honest too.
_STAGES = {
    "Converting and de-quantizing GGUF tensors...": ("convert weights", "tensors"),
    "Loading weights": ("load weights", "tensors"),
    "Writing model shards": ("write weights", "files"),
}
# Byte-level vocabularies whose merges were learned with every digit on its own. transformers 5.19
# knows many of GGUF's pre-tokenizers but not these, and would split "12  34" another way.
_SINGLE_DIGITS = frozenset({"smollm", "starcoder"})


class DiskFullError(Exception):
    """The target's disk can't hold the result.

    Args:
        needed: Bytes of the converted weights.
        free: Bytes that are left.
    """

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(f"the converted weights need {needed} bytes")
        self.needed = needed
        self.free = free


class Reporter:
    """Writes progress as JSON lines.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        """Begin a stage, ending the one before."""
        self._write({"stage": name, "total": total, "unit": unit})

    def advance(self, amount: int) -> None:
        """So much more of the stage is done."""
        self._write({"advance": amount})

    def error(
        self,
        message: str,
        *,
        disk_full: bool = False,
        needed: int | None = None,
        free: int | None = None,
    ) -> None:
        """The last line of a failed run; needed and free in bytes, where the disk is full."""
        event = {"error": message, "disk_full": disk_full, "needed": needed, "free": free}
        self._write(event)

    def _write(self, event: dict[str, Any]) -> None:
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()


def convert(source: Path, target: Path, reporter: Reporter) -> None:
    """Convert one file.

    Args:
        source: A GGUF file of any quantization that transformers can read.
        target: Folder to write; made if need be.
        reporter: Told of stages.

    Raises:
        DiskFullError: The target's disk has no room for the result; nothing was written.
        Exception: Whatever transformers raises for a file it can't read.
    """
    reporter.stage("start the converter")
    _show_bars(reporter)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    _parse_once()
    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    reporter.stage("read the GGUF header")
    config = AutoConfig.from_pretrained(**place)
    model = AutoModelForCausalLM.from_pretrained(
        **place,
        config=config,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    target.mkdir(parents=True, exist_ok=True)
    needed = sum(p.numel() * p.element_size() for p in model.parameters())
    free = shutil.disk_usage(target).free
    if free < needed:
        raise DiskFullError(needed, free)
    model.save_pretrained(target)
    reporter.stage("convert the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(**place)
    _split_digits(tokenizer, source)
    tokenizer.save_pretrained(target)


def _show_bars(reporter: Reporter) -> None:
    """Let the bars that transformers draws with tqdm report here instead."""
    import tqdm.auto  # type: ignore[import-untyped]  # comes with transformers, without types

    class Bar(tqdm.auto.tqdm):  # type: ignore[misc]  # untyped, see above
        """A bar that draws nothing and reports each step."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            stage = _STAGES.get(kwargs.get("desc") or "")
            # A disabled bar keeps no total of its own.
            total = kwargs.get("total", len(args[0]) if args and hasattr(args[0], "__len__") else 0)
            super().__init__(*args, **kwargs | {"disable": True})
            self._reported = stage is not None
            if stage is not None:
                reporter.stage(stage[0], total, stage[1])

        def __iter__(self) -> Any:
            for item in self.iterable:
                yield item
                if self._reported:
                    reporter.advance(1)

        def update(self, n: float | None = 1) -> bool | None:
            if self._reported:
                reporter.advance(int(n or 0))
            return None

    tqdm.auto.tqdm = Bar  # before transformers is imported, so that it takes this one


def _parse_once() -> None:
    """Read the header and build the table of tensor names once instead of 3 and 400 times.

    Both are pure functions of their arguments and their results are only read; transformers
    calls them anew in each step, which is a third of a small model's conversion.
    """
    import gguf

    gguf.GGUFReader = functools.cache(gguf.GGUFReader)
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)


def _split_digits(tokenizer: Any, source: Path) -> None:
    import gguf
    from tokenizers import pre_tokenizers

    field = gguf.GGUFReader(str(source)).fields.get("tokenizer.ggml.pre")
    if field is not None and field.contents() in _SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


def _end_with_parent() -> None:
    """Leave when stdin, the parent's pipe, closes: it does so however the parent dies."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> int:
    """Entry of the child process: ``MODEL.gguf TARGET_FOLDER``, returns the exit status."""
    source, target = map(Path, arguments)
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        _end_with_parent()
    # Libraries print to stdout too; the protocol's lines must stay alone there.
    reporter = Reporter(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    try:
        convert(source, target, reporter)
    except DiskFullError as error:
        reporter.error(str(error), disk_full=True, needed=error.needed, free=error.free)
    except Exception as error:  # noqa: BLE001  the parent has to hear of it, whatever it is
        full = "No space left on device" in str(error)
        reporter.error(f"{type(error).__name__}: {error}", disk_full=full)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
