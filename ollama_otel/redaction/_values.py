"""Reads the value at a place of a text, and judges whether it is a secret."""

from __future__ import annotations

import re
from typing import NamedTuple

from ollama_otel.redaction._engine import MARK_BEGIN
from ollama_otel.redaction._names import Secrecy

__all__ = [
    "BARE",
    "BARE_IN_QUERY",
    "CODE_WORD",
    "LOOKED_AT",
    "PLACEHOLDER",
    "REST",
    "SHORTEST",
    "SHORTEST_QUERY",
    "SHORTEST_TOKEN",
    "TAIL",
    "Value",
    "end_of_line",
    "is_placeholder",
    "is_secret",
    "is_secret_value",
    "looks_random",
    "reads_as_code",
    "until",
    "value_at",
]

_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "„": "“", "«": "»", "”": "”"}
_OPENING = re.compile(
    r"(?:(?:new[ ])?(?!(?:\w+\.)*(?i:get\w*|\w*env\w*|\w*input|\w*prompt|\w*read\w*|\w*ask\w*)\()[A-Za-z_][\w.:]{0,40}!?\([ ]?)?"
    r"(?:[bBrRuUfF@L$]{0,2}(?P<quote>[\"'](?:(?<=\")\"\"|(?<=')'')?)|(?P<other>[`“‘„«”]))"
)
LOOKED_AT = 512
"""Characters of a value that decide; the rest is taken with them, so that the time is linear."""
_SIZE = rf"{{1,{LOOKED_AT}}}+"
BARE = re.compile(r"(?:[^\s\"'`<>|\\“”]++|\\(?![nrtu\"'/\\])|(?<=\w)'(?=\w))++")
_BARE_IN_CODE = re.compile(r"(?:[^\s\"'`<>|\\“”,;&(){}\[\]]++|\\(?![nrtu\"'/\\]))++")
BARE_IN_QUERY = re.compile(rf"[^\s\"'`<>|\\&#;,()\[\]{{}}]{_SIZE}")
REST = re.compile(r"[^\s\"'`<>|\\]*")
TAIL = ".,;:!?)]}*_~"
PLACEHOLDER = re.compile(
    r"\$[A-Za-z_]\w*|\$\{.*|\$\(.*|\{\{?.*|<.*|%[A-Za-z_]*%|%[sdr]|\*{2,}|[xX]{3,}|\.{2,}|…|-{2,}|\?+|_{2,}|#.*|@[A-Z_]+@|\[.*|\\.*|/|[|&=:>]+.*"
    r"|(?:<|\[|\{)?(?:your|my|the|some|an?|insert|enter|put|replace)[-_ ](?:[A-Za-z]+[-_ ]?)*(?:here)?(?:>|\]|\})?"
)
_QUOTED_WORD = re.compile(
    r"(?:yes|no|true|false|none|null|str|string|optional|required)|(?:%[sdr]|\{\w*\}|[^\w\s])+",
    re.IGNORECASE,
)
CODE_WORD = re.compile(
    r"(?:str|int|bool|bytes|string|number|none|null|nil|true|false|undefined|required|optional|any|object|text|"
    r"varchar|char|float|double|void|self|cls|this|type|default|empty|unset|yes|no|on|off|ok|all|and|or|not|if|is|in|as|the|a|an|of|to|for|"
    r"unicode|list|dict|tuple|set|callable|function|method|class|property|field|value|values|integer|boolean|"
    r"(?:[A-Za-z_]*_)?(?:password|passwd|passphrase|pwd|pw|pass|secret|token|api_?key|key|credentials?|auth)s?(?:_[A-Za-z_]+)?)[?!]?",
    re.IGNORECASE,
)
_MEMBER = re.compile(r"[A-Za-z_$]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+(?![\w@!#%^*+?~-])")
SHORTEST, SHORTEST_TOKEN, SHORTEST_QUERY, _LONGEST_SHORT = 3, 6, 8, 12
_DIGIT = re.compile(r"\d")
_SPECIAL = re.compile(r"[^\s]*[A-Za-z0-9][!@#$%^&*+~?=][^\s]*[A-Za-z0-9!@#$%^&*]")


class Value(NamedTuple):
    text: str
    start: int
    end: int
    is_quoted: bool
    after: str
    """The character behind a bare value."""


def value_at(text: str, position: int, *, is_code: bool) -> Value | None:
    found = _OPENING.match(text, position)
    if found is not None and (found["quote"] or found["other"]):
        quote = found["quote"] or _QUOTES[found["other"]]
        return _quoted(text, found.end(), quote)
    bare = (_BARE_IN_CODE if is_code else BARE).match(text, position, position + LOOKED_AT)
    if bare is None:
        return None
    value = bare[0].rstrip(TAIL)
    start = bare.start()
    if not is_code and value.count("(") < bare[0].count(")") and "(" in value:
        value = bare[0]
    end = start + len(value)
    after = "" if text.startswith(MARK_BEGIN, end) else text[end : end + 1]
    return Value(value, start, end, False, after) if value else None


def _quoted(text: str, start: int, quote: str) -> Value | None:
    limit = min(start + LOOKED_AT, len(text))
    line = text.find("\n", start, limit) if len(quote) == 1 else -1
    limit = line if line >= 0 else limit
    end = text.find(quote, start, limit)
    while end > start and _backslashes(text, end) % 2:
        end = text.find(quote, end + 1, limit)
    if end < 0:
        end = limit - 1 if text[limit - 1 : limit] == "\r" and limit > start else limit
    return Value(text[start:end], start, end, True, "") if end > start else None


def _backslashes(text: str, end: int) -> int:
    before = text[max(0, end - 8) : end]
    return len(before) - len(before.rstrip("\\"))


def end_of_line(text: str, start: int) -> int:
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    return end - 1 if text[end - 1 : end] == "\r" and end > start else end


def until(text: str, start: int, sign: str) -> Value | None:
    end = text.find(sign, start, start + LOOKED_AT)
    value = text[start : end if end >= 0 else start + LOOKED_AT].strip()
    return (
        Value(value, start, start + len(value), False, sign)
        if value and "\n" not in value
        else None
    )


def is_secret(value: Value, kind: Secrecy | None) -> bool:
    """Whether a value after a sign is a secret."""
    shown = value.text[:LOOKED_AT]
    if is_placeholder(value):
        return False
    if kind == "certain":
        return value.is_quoted or (len(shown) >= SHORTEST and not reads_as_code(shown, value.after))
    if " " in shown or _DIGIT.search(shown) is None or _MEMBER.fullmatch(shown):
        return False
    if kind == "short":
        return SHORTEST <= len(shown) <= _LONGEST_SHORT and value.after not in ("(", "[")
    return (
        len(shown) >= SHORTEST_TOKEN
        and looks_random(shown)
        and (value.is_quoted or not reads_as_code(shown, value.after))
    )


def is_secret_value(value: object, kind: Secrecy) -> bool:
    """Whether the JSON value of a key of this kind looks like a secret."""
    if not isinstance(value, str | int):
        return False
    text = str(value)
    if _DIGIT.search(text) is None or any(map(str.isspace, text)):
        return False
    if kind == "short":
        return len(text) >= SHORTEST
    return isinstance(value, str) and len(text) >= SHORTEST_TOKEN and looks_random(text[:LOOKED_AT])


def is_placeholder(value: Value) -> bool:
    shown = value.text[:LOOKED_AT]
    if value.is_quoted and (shown[0] in " ),;:]}" or _QUOTED_WORD.fullmatch(shown)):
        # The quotation mark may end a text that the name is in.
        return True
    return PLACEHOLDER.fullmatch(shown) is not None or shown.startswith("[redacted")


def reads_as_code(value: str, after: str) -> bool:
    """Whether a bare value is a type, a literal, a call, a variable or a field."""
    if CODE_WORD.fullmatch(value) or after in ("(", "[") or value.startswith("("):
        return True
    if re.match(r"[A-Za-z_][\w.]{0,64}[(\[]", value):
        return True
    return _MEMBER.fullmatch(value) is not None and _DIGIT.search(value) is None


def looks_random(value: str) -> bool:
    """Whether a word looks like neither prose nor code: it has a digit or a sign inside."""
    if len(value) < 4 or (value.isnumeric() and len(value) < 4):  # noqa: PLR2004
        return False
    if re.fullmatch(
        r"[\w.]*\w\(.*|v?[0-9]+(?:\.[0-9]+)+\S?|[0-9.,]+(?:%|ms|s|kb|mb|px)?|\w+://\S*|[./~]\S*/\S*|<\S*|\S*[(]\S*[)]",
        value,
        re.IGNORECASE,
    ):
        return value.isdigit()
    return _DIGIT.search(value) is not None or _SPECIAL.fullmatch(value) is not None
