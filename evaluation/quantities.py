"""The number that an answer ends with, in digits, words or Chinese numerals."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_DIGITS = dict(zip("零一二三四五六七八九", range(10), strict=True)) | {"〇": 0, "两": 2, "俩": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_BIG = {"万": 10**4, "亿": 10**8}
_SMALL = (
    "zero,one,two,three,four,five,six,seven,eight,nine,ten,eleven,twelve,thirteen,fourteen,fifteen,"
    "sixteen,seventeen,eighteen,nineteen,twenty"
)
_ROUND = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80}
_ROUND |= {"ninety": 90, "hundred": 100}
_WORDS = {word: number for number, word in enumerate(_SMALL.split(","))} | _ROUND
_TENS = "|".join(word for word, number in _WORDS.items() if 20 <= number < 100)
_ONES = "|".join(word for word, number in _WORDS.items() if 1 <= number < 10)

_CHINESE = "[零〇一二三四五六七八九十百千万亿两]"
_NUMBER = re.compile(
    r"(?<![\w.])[-−+]?\s?(?:[$€£¥]\s?)?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,300}(?:\.\d{1,300})?|\.\d{1,300})"
    r"(?:\s?/\s?(?P<below>\d{1,300}))?"
    rf"|(?P<tens>{_TENS})[- ](?P<ones>{_ONES})\b"
    rf"|\b(?P<word>{'|'.join(_WORDS)})\b"
    rf"|(?P<chinese>负?{_CHINESE}{{1,30}}(?:点[零〇一二三四五六七八九]{{1,30}})?)",
    re.IGNORECASE | re.ASCII,
)
# What comes right before the number that is meant as the answer; the last such place counts.
_MARKER = re.compile(
    r"####|\\boxed\{|(?:final )?answer\s*(?:is|:|=)|(?:答案|结果)\s*(?:是|为|:)?|答\s*:"
    r"|等于|一共|共有|(?<![<>=!])=(?!=)",
    re.IGNORECASE,
)


def final_number(text: str) -> Fraction | None:
    """The number that an answer gives: behind the last "answer is", "=", "####" or the like if
    there is one, else its last number; None where it has no number.

    Thousands may be grouped with commas; a fraction such as 3/4 is one number.
    """
    text = unicodedata.normalize("NFKC", text)
    for marker in reversed(list(_MARKER.finditer(text))):
        # Within its own line: the next one may be about something else.
        line = text[marker.end() :].split("\n", 1)[0]
        if found := _NUMBER.search(line):
            return _value(found)
    matches = list(_NUMBER.finditer(text))
    return _value(matches[-1]) if matches else None


def _value(match: re.Match[str]) -> Fraction:
    if match["chinese"]:
        return chinese_number(match["chinese"])
    if match["tens"]:
        return Fraction(_WORDS[match["tens"].lower()] + _WORDS[match["ones"].lower()])
    if match["word"]:
        return Fraction(_WORDS[match["word"].lower()])
    number = Fraction(match["digits"].replace(",", ""))
    below = int(match["below"] or 1)
    number = number / below if below else number
    return -number if match[0].lstrip()[0] in "-−" else number


def chinese_number(text: str) -> Fraction:
    """The value of Chinese numerals, such as 三百二十一 or 一点五."""
    sign = -1 if text.startswith("负") else 1
    whole, _, decimals = text.removeprefix("负").partition("点")
    value = Fraction(_chinese_whole(whole))
    for place, digit in enumerate(decimals, 1):
        value += Fraction(_DIGITS[digit], 10**place)
    return sign * value


def _chinese_whole(text: str) -> int:
    if len(text) > 1 and all(character in _DIGITS for character in text):
        return int("".join(str(_DIGITS[character]) for character in text))  # a year, say
    total = section = digit = 0
    for character in text:
        if character in _DIGITS:
            digit = _DIGITS[character]
        elif character in _UNITS:
            section += (digit or 1) * _UNITS[character]
            digit = 0
        else:
            # 一亿二千万: what stood before the unit counts that many times.
            total = (
                (total + section + digit) * _BIG[character]
                if character == "亿"
                else (total + (section + digit) * _BIG[character])
            )
            section = digit = 0
    return total + section + digit
