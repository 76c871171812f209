"""What `recorder` wrote down, and a summary of it.

``python tests/clients/wire.py RECORD`` prints a line a path: how many requests, their statuses, and
every field of their bodies. It exits with 1 if a whole answer was no 2xx, a field was ignored,
messages were dropped, or there is nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

Exchange = dict[str, Any]
PROTESTS = ("x-corral-ignored-fields", "x-corral-dropped-messages")


class Wire:
    """A record that grows.

    Args:
        record: The file that the recorder appends to.
    """

    def __init__(self, record: Path) -> None:
        self._record = record

    def exchanges(self) -> list[Exchange]:
        """Those that have ended, in the order of their ends."""
        return [json.loads(line) for line in self._record.read_text().splitlines()]

    def until(
        self, wanted: Callable[[Exchange], bool], what: str, after: int = 0, seconds: float = 600
    ) -> Exchange:
        """The first exchange from the ``after``-th on that is wanted; waits for it.

        Raises:
            AssertionError: There was none in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for exchange in self.exchanges()[after:]:
                if wanted(exchange):
                    return exchange
            time.sleep(0.2)
        raise AssertionError(f"no {what} within {seconds} s")


def faults(exchanges: list[Exchange]) -> list[str]:
    """What was not answered, or not obeyed; a client that leaves is no fault."""
    found = []
    for exchange in exchanges:
        name = f"{exchange['method']} {exchange['path']}"
        status = exchange.get("status")
        if exchange["ended"] == "whole" and not 200 <= status < 300:
            found.append(f"{name}: {status} {exchange['answer']}")
        headers = exchange.get("answer_headers", {})
        found += [f"{name}: {key}: {headers[key]}" for key in PROTESTS if key in headers]
    return found


def summary(exchanges: list[Exchange]) -> list[str]:
    """A line a path: how many requests, how they ended, the fields of their bodies."""
    ends: dict[str, list[str]] = defaultdict(list)
    fields: dict[str, set[str]] = defaultdict(set)
    for exchange in exchanges:
        path = f"{exchange['method']} {exchange['path']}"
        ends[path].append(str(exchange["status"]) if exchange["ended"] == "whole" else "left")
        if isinstance(exchange["body"], dict):
            fields[path] |= exchange["body"].keys()
    return [
        f"{path}: {len(of)} requests, {', '.join(sorted(set(of)))}: "
        + ", ".join(sorted(fields[path]) or ["no body"])
        for path, of in ends.items()
    ]


if __name__ == "__main__":
    recorded = Wire(Path(sys.argv[1])).exchanges()
    wrong = faults(recorded) if recorded else ["no request was seen"]
    print(*summary(recorded), *wrong, sep="\n")
    sys.exit(bool(wrong))
