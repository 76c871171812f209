"""How long rows are, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

_SHARES: Final = {"half": 0.5, "most": 0.9, "nearly_all": 0.99}


@dataclass(slots=True)
class Lengths:
    """Gathers the lengths of rows as they are made.

    Args:
        limit: Longest row that is trained, in tokens.
    """

    limit: int
    truncated: int = 0
    """Rows that were longer."""
    dropped: int = 0
    """Rows of which nothing to train on was left."""
    trained_tokens: int = 0
    """Tokens that count in the loss."""
    _lengths: list[int] = field(default_factory=list)

    def add(self, length: int, trained: int) -> None:
        """Count a row of so many tokens, of which so many are trained."""
        self._lengths.append(length)
        self.trained_tokens += trained

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._lengths)

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(self._lengths)

    def summary(self) -> dict[str, Any]:
        """Plain values for reports: rows, tokens, what was cut, and lengths at shares of rows."""
        ordered = sorted(self._lengths)
        shares = {name: _at(ordered, share) for name, share in _SHARES.items()}
        counted = {k: v for k, v in asdict(self).items() if not k.startswith("_")}
        mean = round(self.tokens / max(1, self.rows), 1)
        whole = {"rows": self.rows, "tokens": self.tokens, "mean": mean}
        return whole | shares | {"longest": ordered[-1] if ordered else 0} | counted


def _at(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0
