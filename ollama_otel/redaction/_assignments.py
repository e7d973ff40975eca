"""Finds values that stand beside the name of a secret, in the forms in which people write them.

First the names are found, then each form is tried at the end of a name. A value that is rejected
is searched again, as it may hold a name itself.
"""

from __future__ import annotations

import re

from ollama_otel.redaction._engine import Span
from ollama_otel.redaction._name_search import Name, names_in
from ollama_otel.redaction._values import (
    BARE,
    BARE_IN_QUERY,
    CODE_WORD,
    LOOKED_AT,
    PLACEHOLDER,
    REST,
    SHORTEST,
    SHORTEST_QUERY,
    SHORTEST_TOKEN,
    TAIL,
    Value,
    end_of_line,
    is_placeholder,
    is_secret,
    looks_random,
    reads_as_code,
    until,
    value_at,
)

__all__ = ["find_assigned"]

# In addresses, these hold what gives access; elsewhere they are names of anything.
_QUERY_NAMES = frozenset(
    [
        "key",
        "sig",
        "signature",
        "code",
        "auth",
        "sas",
        "hmac",
        "policy",
        "ticket",
        "assertion",
        "sid",
        "session",
        "jsessionid",
        "phpsessid",
        "x-amz-signature",
        "x-goog-signature",
        "x-amz-credential",
        "x-amz-security-token",
        "subscription-key",
        "auth_key",
        "apikey",
        "pass",
        "pwd",
        "pw",
        "state_token",
        "hdnts",
        "hdnea",
        "st",
    ]
)

_CLOSE = r"(?:[\"'`’”´]|\*{1,3}|__|~~|\)|\]|</\w{1,10}>){0,4}"
_MARKUP = r"(?:\*{1,3}(?=[^\s*])|\*{2,3}[ \t]|[!&]\w{1,16}[ ]|__[ \t]?|~~|</?(?:b|i|em|td|th|dd|dt|code|span|strong|pre|string|p)>|[ \t]){0,8}"
_TYPE = r"(?:[ \t]{0,4}&?(?:'\w{1,12}[ ])?[A-Za-z_][\w.]{0,40}(?:[\[<][\w., |\[\]]{0,40}[\]>])?[?!]?(?:[ ]\|[ ]\w{1,20})?[ \t]{0,4}=(?![=>])[ \t]{0,4})?"
_SIGN = re.compile(
    rf"{_CLOSE}(?:[ ]?\([^()\r\n]{{1,40}}\)|[ ]\[(?!redacted)[^\[\]\r\n]{{1,40}}\](?=[ ]?:)|[ ]?[.·…_?]{{1,40}}(?=[ ]?[:=]))?[ \t\u00a0]{{0,8}}"
    rf"(?:(?P<colon>(?::(?![:=])|[：﹕꞉]){_TYPE})|(?P<equals>[=＝](?![=>])|[ ][\w.*&<>?\[\]]{{2,30}}[ ]=[ ](?=[\"'`])|[ ]?\{{[^{{}}\r\n]{{1,40}}\}}[ ]=[ ](?=\")"
    rf"|[ ]\{{\s{{1,8}}(?:\w{{1,20}}\s{{1,8}}=[ ][^\r\n{{}}]{{1,60}}\r?\n\s{{1,8}}){{0,4}}(?:default|value)\s{{1,8}}=[ ](?=\"))"
    rf"|(?P<compared>[=!]==?(?!=))|(?:\[\][ \t]{{0,4}}=|:=|=>|->|<-|→|⇒|➜|»|›|…|[ ][.·_]{{2,60}}[ ]|\|\|=|\?\?=|\?=|(?:\|\||\?\?|or)[ ](?=[\"'`])|[ ][—–-][ ]|(?<=[ ])[—–-](?=[ ])))"
    rf"{_MARKUP}"
)
_NEXT_LINE = re.compile(
    r"[ \t]{0,8}(?P<block>[|>][-+]?)?[ \t]{0,8}\r?\n[ \t>]{0,16}(?:\r?\n[ \t>]{0,16})?(?:[-*+•][ ])?(?:(?:```|~~~)\w{0,12}\r?\n[ \t]{0,8})?"
)
_HEADING = re.compile(
    rf"{_CLOSE}[ \t]{{0,8}}\r?\n[ \t>]{{0,16}}(?:\r?\n[ \t>]{{0,16}})?(?:(?:```|~~~)\w{{0,12}}\r?\n[ \t]{{0,8}})?"
)
_CELL = re.compile(rf"{_CLOSE}[ \t]{{0,32}}\|[ \t]{{0,32}}[*_]{{0,3}}")
_TAB = re.compile(rf"{_CLOSE}\t[ \t]{{0,8}}")
_ELEMENT = re.compile(r"(?:[\"'][^<>\r\n]{0,100}|[ ][^<>\r\n]{0,100})?>\s{0,16}(?=[^<\s])")
_AFTER_ELEMENT = re.compile(
    r"(?::?[ ]?</\w{1,10}>\s{0,16}){1,3}(?:<\w{1,10}(?:[ ][^<>\r\n]{0,40})?>\s{0,16}){0,3}(?=[^<\s])"
)
_PAIR = re.compile(
    r"[\"']?(?:[ ][\w-]{1,20}=[\"'][^\"'<>\r\n]{0,60}[\"']){0,4}\s{0,4},?\s{0,40}(?:/>\s{0,8})?[\"']?(?:value|val|content|default|secret)[\"']?[ \t]{0,8}[:=][ \t]{0,8}",
    re.IGNORECASE,
)
_ARGUMENT = re.compile(
    r"(?:[\"'`]\s{0,4},\s{0,8}|[ \t]{0,4}\(\s{0,8}(?:new[ ])?)(?=[bBuUrRfF@]?[\"'`])"
)
_SPACE = re.compile(rf"{_CLOSE}[ \t]{{1,8}}[\[(]?")
_IS = re.compile(
    rf"{_CLOSE}(?:['’]s(?=\s))?(?:[ ](?:for|to|of|on|in|at|für|de|pour)[ ](?:the[ ]|my[ ]|our[ ]|your[ ]|this[ ]|user[ ]|account[ ]|le[ ]){{0,2}}[\w.@-]{{1,40}}(?:[ ](?!is\b|was\b)[\w.-]{{1,20}}){{0,2}})?"
    rf"(?:[ ]?(?:(?i:(?:(?<=[ ])(?:is|was|are|of|equals|ist|lautet|est|es|é|è|jest|has|been|will|be|now|set|changed|reset|updated|from|to|as|still|currently|called|becomes|with)\b))|=|:|[是为為はが])){{1,5}}:?{_MARKUP}[\[(]?"
    rf"|{_CLOSE}(?:[ ][\w'’@.-]{{1,24}}){{1,4}}(?:[ ]\([^()\r\n]{{1,40}}\))?[ ]?[:：=]{_MARKUP}"
    rf"|{_CLOSE}[ ](?:for|to|of)[ ](?:the[ ]|my[ ]|our[ ]){{0,1}}[\w.@-]{{1,40}}(?:[ ][\w.-]{{1,20}})?[ ]?[:=]{_MARKUP}"
    rf"|{_CLOSE}['’]s[ ]{_MARKUP}"
)
_BEFORE = re.compile(
    r"(?:(?P<quote>[\"'`])(?P<quoted>[^\s\"'`]{4,64})[\"'`]|(?<![^\s(,:])(?P<bare>[^\s\"'`\]]{4,64}))"
    r"[ ](?:as|is|for|be)[ ](?:(?:the|my|our|your|a|his|her|their|its|new|old|root|admin|user|db|default)[ ]){0,3}\Z"
)

_FALLBACK = re.compile(
    r"[A-Za-z_$][\w.]{0,60}(?:\([ ]?[\"'][\w.-]{1,60}[\"'][ ]?,|\[[\"'][\w.-]{1,60}[\"']\]|\([ ]?[\"'][\w.-]{1,60}[\"'][ ]?\))?"
    r"[^\r\n\"'`,;]{0,40}(?:(?<=,)|\"\"|[ ](?:\|\||\?\?|or|\?[^\r\n\"'`]{0,40}:))[^\r\n\"'`,;]{0,20}(?=[\"'`])"
)

_LONGEST_HEAD = 400
_LONGEST_INDENT = 40
_TABLE_RULE = re.compile(r"[ \t>]*\|?[ \t]*:?-+[-:| \t]*(?:\r?\n|\Z)")
_TABLE_ROW = re.compile(r"[ \t>]*\|?(?P<cells>[^\r\n|]*(?:\|[^\r\n|]*)+)(?:\r?\n|\Z)")


def find_assigned(text: str) -> list[Span]:
    """Find the values beside names of secrets."""
    spans: list[Span] = []
    end = table_head = table_end = 0
    for name in names_in(text):
        if name.start < end:
            continue
        value = _value_of(text, name)
        if value is not None:
            end = _end_of(text, value)
            spans.append(Span(value.start, end, "secret"))
        if name.secrecy == "certain" and (name.start < table_head or name.start >= table_end):
            cells, table_head, table_end = _column(text, name)
            spans += cells
    return spans


def _end_of(text: str, value: Value) -> int:
    """Return the end of a secret, of which only the first characters were looked at."""
    if value.end - value.start < LOOKED_AT - len(TAIL):
        return value.end
    if not value.is_quoted:
        found = REST.match(text, value.end)
        return found.end() if found is not None else value.end
    line = end_of_line(text, value.end)
    ends = [end for quote in "\"'`”’“»" if (end := text.find(quote, value.end, line)) >= 0]
    return min(ends, default=line)


def _value_of(text: str, name: Name) -> Value | None:
    """Return the secret beside a name; None if there is none."""
    before = text[name.start - 1 : name.start]
    if before in ("?", "&", ";", "#", ".") and text[name.end : name.end + 1] == "=":
        return _of_query(text, name, before)
    if name.secrecy is None:
        return None
    if (found := _SIGN.match(text, name.end)) is not None:
        value = _after_sign(text, name, found)
        if value is not None:
            return value
    if before == "@" and name.secrecy != "certain":
        return None
    return _in_other_forms(text, name)


def _of_query(text: str, name: Name, before: str) -> Value | None:
    found = BARE_IN_QUERY.match(text, name.end + 1)
    last = name.text.rsplit(".", 1)[-1].lower()
    if found is None:
        return _sure_value(text, name)
    value = found[0].rstrip(TAIL)
    if name.secrecy != "certain" and not (before == ";" and last == "pwd"):
        is_named = name.secrecy is not None
        if not is_named and (last not in _QUERY_NAMES or before == "."):
            return None
        shortest = SHORTEST_TOKEN if is_named else SHORTEST_QUERY
        if len(value) < shortest or not any(map(str.isdigit, value)):
            return None
    elif PLACEHOLDER.fullmatch(value) or reads_as_code(value, text[found.end() : found.end() + 1]):
        return None
    return Value(value, found.start(), found.start() + len(value), False, "") if value else None


def _sure_value(text: str, name: Name) -> Value | None:
    found = _SIGN.match(text, name.end)
    return _after_sign(text, name, found) if found and name.secrecy else None


def _after_sign(text: str, name: Name, found: re.Match[str]) -> Value | None:
    is_colon, is_equals = found["colon"] is not None, found["equals"] is not None
    position = found.end()
    if (line := _NEXT_LINE.match(text, position)) is not None:
        return _on_next_line(text, name, line) if is_colon or found[0].strip() else None
    value = value_at(text, position, is_code=is_equals)
    if value is None:
        return None
    if not value.is_quoted and (other := _fallback(text, name, value)) is not None:
        return other
    if is_equals and not value.is_quoted and _begins_line(text, name.start):
        value = _whole_word(text, value, found[0])
    if found["compared"] is not None and not value.is_quoted:
        return None
    if not _is_plain(found, value, name) and not looks_random(value.text):
        return None
    return value if is_secret(value, name.secrecy) else None


def _fallback(text: str, name: Name, value: Value) -> Value | None:
    """Return the literal in `password = getenv("X", "literal")` or `x || "literal"`."""
    if name.secrecy != "certain":
        return None
    found = _FALLBACK.match(text, value.start)
    other = value_at(text, found.end(), is_code=True) if found is not None else None
    if other is None or " " in other.text or not is_secret(other, "certain"):
        return None
    return other if looks_random(other.text) else None


def _is_plain(found: re.Match[str], value: Value, name: Name) -> bool:
    """Whether a sign assigns without doubt, so that any word behind it may be a secret."""
    if ")" in found[0] or found["compared"] is not None:
        return False
    if found["equals"] is None and not value.is_quoted and name.text.lower() == "secret":
        return False
    return (
        found["colon"] is not None
        or found["equals"] is not None
        or ("=>" in found[0] and value.is_quoted)
    )


def _begins_line(text: str, start: int) -> bool:
    line = text.rfind("\n", max(0, start - _LONGEST_INDENT), start) + 1
    return (line > 0 or start <= _LONGEST_INDENT) and text[line:start].strip() in (
        "",
        "export",
        "set",
        "ENV",
        "ARG",
        "-",
        "- -e",
    )


def _whole_word(text: str, value: Value, sign: str) -> Value:
    """Extend a value in a line of its own, such as `PASSWORD=a&b;c`, to the next space."""
    if sign.strip() != sign:
        return value
    found = BARE.match(text, value.start, value.start + LOOKED_AT)
    if (
        found is None
        or text[found.end() : found.end() + 1] not in ("", "\n", "\r")
        or ";" in found[0]
    ):
        return value
    return value._replace(text=found[0], end=found.end())


def _on_next_line(text: str, name: Name, line: re.Match[str]) -> Value | None:
    value = value_at(text, line.end(), is_code=False)
    if value is None or name.secrecy == "short":
        return None
    rest = text[value.end : value.end + 4]
    is_alone = rest.lstrip("\"'`*_.,;”") == "" or rest.lstrip("\"'`*_.,;”")[:1] in ("\r", "\n")
    if not is_alone or value.text.endswith((":", "=")):
        return None
    is_certain = line["block"] is not None and name.secrecy == "certain"
    return value if is_certain or looks_random(value.text) else None


_BEFORE_OPTION = ("", " ", "\t", "\n", '"', "'", "`", "[", "(", ",")
_CODE_FOLLOWS = ",;={}+/%&\\"


def _in_other_forms(text: str, name: Name) -> Value | None:
    after = text[name.end : name.end + 1]
    if after and after in _CODE_FOLLOWS:
        return _before(text, name) if after in ";," else None
    return _in_markup(text, name) or _in_prose(text, name) or _before(text, name)


def _in_markup(text: str, name: Name) -> Value | None:
    """Return the value in an element, a call, or a pair of a name and a value."""
    if (found := _PAIR.match(text, name.end)) is not None and _is_pair(text, name):
        value = value_at(text, found.end(), is_code=False)
        if value is not None and " " not in value.text and is_secret(value, name.secrecy):
            return value
    if (found := _ARGUMENT.match(text, name.end)) is not None:
        value = value_at(text, found.end(), is_code=True)
        if value is not None and _is_argument(value) and is_secret(value, name.secrecy):
            return value
    is_element = text[name.start - 1 : name.start] in ("<", ":", '"', "'")
    if is_element and (found := _ELEMENT.match(text, name.end)) is not None:
        value = until(text, found.end(), "<")
        if value is not None and is_secret(value, name.secrecy) and " " not in value.text:
            return value
    return None


def _in_prose(text: str, name: Name) -> Value | None:
    """Return the value in a sentence, a table, below a heading, or behind an option."""
    forms = [_AFTER_ELEMENT, _CELL, _IS, _TAB, *([_HEADING] if _is_heading(text, name) else [])]
    for form in forms:
        if (found := form.match(text, name.end)) is not None:
            value = value_at(text, found.end(), is_code=False)
            if value is not None and _is_said(value, name):
                return value
    if (found := _SPACE.match(text, name.end)) is not None:
        value = value_at(text, found.end(), is_code=False)
        if value is not None and _is_behind(value, text, name):
            return value
    return None


def _is_pair(text: str, name: Name) -> bool:
    before = text[max(0, name.start - 16) : name.start].lower()
    return (
        re.search(
            r"(?:name|key|id|field|var|variable|header|type)[\"']?\s{0,4}[:=]\s{0,4}[\"']?\Z",
            before,
        )
        is not None
    )


def _is_argument(value: Value) -> bool:
    return (
        not re.search(r"\s|[:?]\Z", value.text)
        and CODE_WORD.fullmatch(value.text) is None
        and (looks_random(value.text))
    )


def _is_heading(text: str, name: Name) -> bool:
    line = text.rfind("\n", max(0, name.start - 60), name.start) + 1
    start = text[line : name.start]
    return bool(
        re.fullmatch(r"[ \t>]*(?:#{1,6}|\*\*|[-*])?[ \t*`_]*(?:[\w-]{1,20}[ ]){0,2}", start)
    ) and (
        "#" in start or "*" in start or (line == 0 or name.start - line < 12)  # noqa: PLR2004
    )


def _is_said(value: Value, name: Name) -> bool:
    """Whether a value in prose or a table is a secret."""
    if name.secrecy == "short":
        return is_secret(value, "short")
    if " " in value.text or is_placeholder(value):
        return False
    if name.secrecy == "likely":
        return is_secret(value, "likely")
    return looks_random(value.text)


def _is_behind(value: Value, text: str, name: Name) -> bool:
    """Whether a value that follows a name after a space is a secret."""
    is_option = name.text.startswith("-") and text[name.start - 1 : name.start] in _BEFORE_OPTION
    if is_option:
        return (
            not value.text.startswith("-")
            and is_secret(value, name.secrecy)
            and (
                value.is_quoted
                or looks_random(value.text)
                or (
                    name.secrecy == "certain"
                    and text[value.end : value.end + 1] in ("", "\n", " ")
                    and value.text.isalnum()
                    and _is_command(text, name)
                )
            )
        )
    if value.is_quoted:
        return name.secrecy == "certain" and " " not in value.text and looks_random(value.text)
    if name.secrecy == "likely" and _begins_line(text, name.start):
        return is_secret(value, "likely")
    return _is_said(value, name) if name.secrecy != "likely" else False


def _is_command(text: str, name: Name) -> bool:
    line = text.rfind("\n", max(0, name.start - 200), name.start) + 1
    return re.match(r"[ \t$>#]*[\w./-]+[ ]", text[line : name.start]) is not None


def _before(text: str, name: Name) -> Value | None:
    """Return the value in "use X as the password"."""
    if name.secrecy != "certain":
        return None
    start = max(0, name.start - 100)
    found = _BEFORE.search(text[start : name.start])
    if found is None:
        return None
    group = "quoted" if found["quote"] else "bare"
    value = Value(
        found[group], start + found.start(group), start + found.end(group), bool(found["quote"]), ""
    )
    return value if looks_random(value.text) and not is_placeholder(value) else None


def _column(text: str, name: Name) -> tuple[list[Span], int, int]:
    """Find the values below a name in the head of a table; return the ends of head and table."""
    line = text.rfind("\n", max(0, name.start - _LONGEST_HEAD), name.start) + 1
    end = text.find("\n", name.end, name.end + _LONGEST_HEAD)
    rule = _TABLE_RULE.match(text, end + 1) if end >= 0 else None
    if rule is None or (line == 0 and name.start > _LONGEST_HEAD):
        return [], 0, 0
    index = text.count("|", line, name.start) - text[line:end].lstrip().startswith("|")
    spans = []
    position = rule.end()
    while (row := _TABLE_ROW.match(text, position)) is not None:
        position = row.end()
        cells = row["cells"].split("|")
        if index < len(cells) and (cell := cells[index].strip(" \t`*_\"'")):
            start = (
                row.start("cells") + len("|".join((*cells[:index], ""))) + cells[index].index(cell)
            )
            if len(cell) >= SHORTEST and " " not in cell and not PLACEHOLDER.fullmatch(cell):
                spans.append(Span(start, start + len(cell), "secret"))
    return spans, end, position
