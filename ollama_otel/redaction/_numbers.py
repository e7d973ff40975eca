"""Finds payment cards and bank accounts: numbers with a known start, length and checksum.

Digits may be of any script, with any space or dash of Unicode between groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ollama_otel.redaction._engine import Span, next_match

__all__ = ["find_cards", "find_ibans"]

_SPACE = r"[ \t\u00a0\u1680\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff]"
_DASH = r"[-\u00ad\u2010-\u2015\u2043\u2212\ufe58\ufe63\uff0d]"
_GAP = rf"(?:{_SPACE}{{1,2}}(?:{_DASH}{_SPACE}{{1,2}})?|{_DASH}|[.\u00b7](?=\d{{4}}))"
_DIGITS = re.compile(r"\d+")
_RUN = re.compile(rf"(?<![\w])(?<!\d\.)\d{{1,19}}(?:{_GAP}\d{{1,19}}){{0,199}}+")
_LONGEST_RUN = 200
"""Groups that are looked at together; a longer run is continued with its last groups."""
_GOES_ON = re.compile(r"\w|\.\d")
"""Behind a run, it makes the last group a part of something else."""
_FEWEST, _MOST = 13, 19
_MOST_GROUPS = 6
# Visa; Mastercard; Mir; American Express; Diners; JCB; Discover; UnionPay; Maestro; RuPay.
_ISSUED = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}"
    r"|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}|220[0-4][0-9]{12,15}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[689][0-9])[0-9]{11,16}|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"
    r"|(?:6011|65[0-9]{2}|64[4-9][0-9]|62[0-9]{2}|60[0-9]{2}|508[0-9])[0-9]{12,15}"
    r"|(?:50|5[6-9]|6[0-9])[0-9]{10,17}"
)
# In groups, the length of a card says more: Maestro's 12 to 19 digits are left to plain numbers.
_ISSUED_IN_GROUPS = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}"
    r"|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}|220[0-4][0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[689][0-9])[0-9]{11}|35(?:2[89]|[3-8][0-9])[0-9]{12}"
    r"|(?:6011|65[0-9]{2}|64[4-9][0-9]|62[0-9]{2}|508[0-9])[0-9]{12,15}"
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])[0-9]{8,15}"
)
_LAYOUTS = frozenset(((4, 6, 5), (4, 6, 4), (8, 8), (6, 13), (4, 4, 5), (4, 4, 8)))
_ROW = 4
"""Digits of a group that may belong to a row of numbers instead of a card."""

_LONGEST_ROW = 200
_FOURS = r"\d{4}(?:[ \t]{1,4}\d{4}){3,30}"
_ROW_OF_FOURS = re.compile(_FOURS)
_LINE_BEFORE = re.compile(rf"(?<!\S)(?P<row>{_FOURS})[ \t|,;]*\r?\n[ \t|]*\Z")
_LINE_AFTER = re.compile(rf"[ \t|,;]*\r?\n[ \t|]*(?P<row>{_FOURS})(?!\S)")


class _Run:
    """Groups of digits with gaps between them, and the range in which a card may begin."""

    def __init__(
        self, text: str, parts: Sequence[re.Match[str]], *, is_continued: bool, goes_on: bool
    ) -> None:
        self.start, self.end = parts[0].start(), parts[-1].end()
        self.starts = [part.start() for part in parts]
        self.groups = [_as_ascii(part[0]) for part in parts]
        self.gaps = [text[one.end() : other.start()].strip() for one, other in pairwise(parts)]
        self.candidates = range(
            _MOST_GROUPS if is_continued else 0, len(parts) - (_MOST_GROUPS if goes_on else 0)
        )


def _as_ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)


def find_cards(text: str) -> list[Span]:
    """Find payment card numbers: 13 to 19 digits, a known issuer, a valid checksum."""
    spans: list[Span] = []
    for run in _runs(text):
        if run.end - run.start >= _FEWEST and not _in_table(text, run):
            spans += _cards_in(run)
    return spans


def _runs(text: str) -> Iterator[_Run]:
    """Yield all groups of digits that gaps join, at most 200 at a time."""
    found = next_match(_RUN, text)
    is_continued = False
    while found is not None:
        parts = list(_DIGITS.finditer(text, *found.span()))
        next_run = None
        if len(parts) == _LONGEST_RUN:
            next_run = _RUN.match(text, parts[-2 * _MOST_GROUPS].start())
        goes_on = next_run is not None and next_run.end() > found.end()
        if _GOES_ON.match(text, found.end()):
            parts.pop()
        if parts:
            yield _Run(text, parts, is_continued=is_continued, goes_on=goes_on)
        found = next_run if goes_on else next_match(_RUN, text, found.end())
        is_continued = goes_on


def _in_table(text: str, run: _Run) -> bool:
    """Whether a line of numbers of four digits is beside another one that holds no card."""
    if (
        run.end - run.start > _LONGEST_ROW
        or _ROW_OF_FOURS.fullmatch(text, run.start, run.end) is None
    ):
        return False
    before = _LINE_BEFORE.search(text[max(0, run.start - _LONGEST_ROW) : run.start])
    after = _LINE_AFTER.match(text, run.end)
    rows = [line["row"] for line in (before, after) if line is not None]
    return any(not _is_card(re.sub(r"\D", "", row), [_ROW] * 4) for row in rows)


def _cards_in(run: _Run) -> Iterator[Span]:
    end = 0
    for index in run.candidates:
        if index >= end and (count := _card_at(run, index)):
            end = index + count
            yield Span(
                run.starts[index],
                run.starts[end - 1] + len(run.groups[end - 1]),
                "card_number",
            )


def _card_at(run: _Run, index: int) -> int:
    """Return the number of groups from `index` on that form a card number; 0 if none do."""
    digits = ""
    lengths: list[int] = []
    best = 0
    for count, group in enumerate(run.groups[index : index + _MOST_GROUPS], 1):
        digits += group
        lengths.append(len(group))
        if len(digits) > _MOST or len(set(run.gaps[index : index + count - 1])) > 1:
            break
        if len(digits) >= _FEWEST and _is_card(digits, lengths) and not _in_row(run, index, count):
            best = count
    return best


def _is_card(digits: str, lengths: Sequence[int]) -> bool:
    if len(lengths) == 1:
        return _ISSUED.fullmatch(digits) is not None and _has_luhn_checksum(digits)
    fours = all(length == _ROW for length in lengths[:-1]) and lengths[-1] <= _ROW
    if not fours and tuple(lengths) not in _LAYOUTS:
        return False
    return _ISSUED_IN_GROUPS.fullmatch(digits) is not None and _has_luhn_checksum(digits)


def _in_row(run: _Run, index: int, count: int) -> bool:
    """Whether a group of the same kind is beside a candidate, which is part of a row then."""
    if count == 1:
        # A fraction, or digits that belong to it.
        return any("." in gap for gap in run.gaps[max(0, index - 1) : index + 1])
    gap = run.gaps[index]
    last = index + count - 1
    before = index and run.gaps[index - 1] == gap and len(run.groups[index - 1]) == _ROW
    after = (
        last + 1 < len(run.groups)
        and run.gaps[last] == gap
        and len(run.groups[last + 1]) == _ROW
        and len(run.groups[0]) == _ROW
    )
    return bool(before or after)


_DOUBLED = {str(digit): sum(divmod(2 * digit, 10)) for digit in range(10)}


def _has_luhn_checksum(digits: str) -> bool:
    doubled = map(_DOUBLED.__getitem__, digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


# The registry of SWIFT, release 99: characters of an IBAN by country.
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})([0-9]{2})",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 "
        "DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 "
        "HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 "
        "MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 "
        "RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 "
        "VA22 VG24 XK20 YE30",
    )
}
_SIGN = r"[A-Za-z0-9\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\u0660-\u0669\u06f0-\u06f9]"
_IBAN = re.compile(
    rf"(?<!{_SIGN})[A-Za-z\uff21-\uff3a\uff41-\uff5a]{{2}}{_GAP}?\d{_GAP}?\d(?:{_GAP}?{_SIGN}){{11,30}}"
)
_OTHER_SIGN = re.compile(rf"(?!{_SIGN}).", re.DOTALL)


def find_ibans(text: str) -> list[Span]:
    """Find account numbers (IBAN): the length of their country and a valid checksum."""
    spans: list[Span] = []
    search = 0
    while found := next_match(_IBAN, text, search):
        length = _iban_length(text, found)
        search = found.start() + (length or 1)
        if length:
            spans.append(Span(found.start(), search, "iban"))
    return spans


def _iban_length(text: str, found: re.Match[str]) -> int:
    """Return the number of characters of a candidate that form an account number, or 0."""
    places = [at for at, sign in enumerate(found[0]) if _OTHER_SIGN.match(sign) is None]
    iban = "".join(_plain(found[0][at]) for at in places)
    size = _IBAN_LENGTHS.get(iban[:2], 0)
    if not size or len(iban) < size:
        return 0
    length = places[size - 1] + 1
    after = text[found.start() + length : found.start() + length + 1]
    if after and _OTHER_SIGN.match(after) is None:
        return 0
    iban = iban[:size]
    if not iban.isascii() or not iban.isalnum():
        return 0
    number = int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4]))
    return length if number % 97 == 1 else 0


def _plain(sign: str) -> str:
    """Return a letter or digit of any width as ASCII in capitals."""
    if sign.isdecimal():
        return str(int(sign))
    code = ord(sign)
    return chr(code - 0xFEE0).upper() if code >= 0xFF21 else sign.upper()  # noqa: PLR2004
