"""Whether an answer says something, and not its opposite.

A pattern counts where it is found outside a negation: "The capital is Paris" says Paris, "It is not
Paris" and "Paris is wrong" do not. The look is at one clause: which words deny what in a sentence
of several clauses is more than patterns can tell.
"""

from __future__ import annotations

import re

_CLAUSE_END = re.compile(
    r"[.!?;:\n。！？；：]|[,，](?=\s*(?:but|it|so|and)\b|但|而|它|所以)|\bbut\b|但是?|而是"
)
_DENIES_BEFORE = re.compile(
    r"\b(?:not|never|no|nor|neither|without|cannot|rather than|instead of|\w+n['’]t)\b"
    r"|不|没有?|并非|非(?!常)|未|别(?!的|人)|无(?!论|数)",
    re.IGNORECASE,
)
# They look like denials, and are none.
_NO_DENIAL = re.compile(
    r"\bnot only\b|\bno doubt\b|\bno problem\b|\bnot just\b|\bwhy not\b"
    r"|不仅|不但|不只|不错|不过|不少|不同|没错|没问题|毫无疑问|无疑|不愧",
    re.IGNORECASE,
)
_DENIES_AFTER = re.compile(
    r"['\"”’*]*\s*(?:(?:is|are|was|were)(?:\s+(?:wrong|incorrect|false|untrue)\b"
    r"|\s?(?:n['’]t|\s+not)\s+(?:(?:the\s+)?(?:right|correct|answer)|true)\b)"
    r"|(?:是)?(?:错误?的|不对|不正确|不是正确))",
    re.IGNORECASE,
)


def says(pattern: str, text: str) -> bool:
    """True if ``pattern``, a regular expression without regard to case, is found un-negated."""
    return any(
        not _denied(text, match.start(), match.end())
        for match in re.finditer(pattern, text, re.IGNORECASE)
    )


def _denied(text: str, start: int, end: int) -> bool:
    begins = 0
    for clause in _CLAUSE_END.finditer(text, 0, start):
        begins = clause.end()
    before = _NO_DENIAL.sub("", text[begins:start])
    return bool(_DENIES_BEFORE.search(before) or _DENIES_AFTER.match(text, end))
