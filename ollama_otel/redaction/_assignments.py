"""Finds values that stand beside the name of a secret, in the forms in which people write them.

First the names are found, then each form is tried at the end of a name. A value that is rejected
is searched again, as it may hold a name itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ollama_otel.redaction._engine import Span
from ollama_otel.redaction._names import Secrecy, secrecy

__all__ = ["find_assigned", "is_secret_value"]

# --- names --------------------------------------------------------------------------------

# Every name of a secret has one of these; names are cut out of the text around them.
_CORES = (
    *("passw", "passphrase", "passcode", "passkey", "pwd", "secret", "token", "key", "credential"),
    *("creds", "cookie", "auth", "jwt", "session", "connection", "phrase", "contrase", "passord"),
    *("senha", "wachtwoord", "mot de passe", "requirepass", "mnemonic", "signature", "bearer"),
    *("пароль", "密码", "密碼", "パスワード", "비밀번호"),
)
# These are parts of other words, too, and count as whole words only.
_WORDS = (
    *("pass", "pw", "pin", "otp", "cvv", "cvc", "ssn", "sig", "sas", "sid", "code", "hmac", "dsn"),
    *("psk", "pat", "answer", "haslo", "hasło", "heslo", "parola", "mdp", "policy", "ticket"),
    *("assertion", "seed", "st", "mfa", "totp"),
)
_MARK = "[redacted: "
_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_LONGEST_NAME = 64
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


_COMMON = re.compile(
    r"[\w. -]*?(?:cookies?2?|authorization|pwd|bearer|jwt|credentials?|creds|authkey|passkey|parola|contraste)",
    re.IGNORECASE,
)


class _Name(NamedTuple):
    text: str
    start: int
    end: int
    secrecy: Secrecy | None


def _names(text: str) -> Iterator[_Name]:
    lowered = text.lower()
    if len(lowered) != len(text):
        # A few capitals have two small letters.
        lowered = "".join(sign.lower() if len(sign.lower()) == 1 else sign for sign in text)
    end = 0
    for start, stop in sorted(_hits(text, lowered)):
        if start >= end and not _is_in_mark(text, start):
            name = _name_around(text, start, stop)
            end = name.end
            yield name


def _hits(text: str, lowered: str) -> Iterator[tuple[int, int]]:
    for core in [core for core in _CORES if core in lowered]:
        at = lowered.find(core)
        while at >= 0:
            yield at, at + len(core)
            at = lowered.find(core, at + len(core))
    for word in [word for word in _WORDS if word in lowered]:
        at = lowered.find(word)
        while at >= 0:
            end = at + len(word)
            if _is_word(text, at, end):
                yield at, end
            at = lowered.find(word, end)


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether a word begins and ends here, also in `camelCase`."""
    begins = not text[start - 1 : start].isalpha() or (
        text[start].isupper() and text[start - 1].islower()
    )
    return begins and (
        not text[end : end + 1].isalpha() or (text[end].isupper() and text[end - 1].islower())
    )


def _is_in_mark(text: str, start: int) -> bool:
    mark = text.rfind(_MARK, max(0, start - _LONGEST_NAME - len(_MARK)), start)
    return mark >= 0 and "]" not in text[mark:start]


def _name_around(text: str, start: int, end: int) -> _Name:
    before = text[max(0, start - _LONGEST_NAME) : start]
    kept = before.rstrip(_NAME_CHARACTERS + ".")
    start -= len(before) - len(kept)
    after = text[end : end + _LONGEST_NAME]
    end += len(after) - len(after.lstrip(_NAME_CHARACTERS))
    while text[end - 1] == "-":
        end -= 1
    while end < len(text) and "\u00c0" <= text[end] <= "\u024f":
        end += 1
        end += len(text[end : end + 8]) - len(text[end : end + 8].lstrip(_NAME_CHARACTERS))
    name = text[start:end]
    kind = _in_text(name, secrecy(name))
    if kind != "certain" and kept[-1:] in (" ", "\u00a0") and text[start].isalpha():
        word = kept[:-1].rpartition(" ")[2].strip("\"'`*_([{#>|-")
        if word.isalnum() and word.lower() not in ("a", "the", "this", "that"):
            kind = _stronger(kind, _in_text(f"{word} {name}", secrecy(f"{word} {name}")))
    return _Name(name, start, end, kind)


def _in_text(name: str, kind: Secrecy | None) -> Secrecy | None:
    """Return what a name says in text, where a few are words of prose and code, too."""
    return "likely" if kind == "certain" and _COMMON.fullmatch(name) else kind


def _stronger(one: Secrecy | None, other: Secrecy | None) -> Secrecy | None:
    return other if other == "certain" or one is None else one


# --- forms --------------------------------------------------------------------------------

_CLOSE = r"(?:[\"'`’”´]|\*{1,3}|__|~~|\)|\]|</\w{1,10}>){0,4}"
_MARKUP = r"(?:\*{1,3}(?=[^\s*])|\*{2}[ \t]|__[ \t]?|~~|</?(?:b|i|em|td|th|dd|dt|code|span|strong|pre|string|p)>|[ \t]){0,8}"
_TYPE = r"(?:[ \t]{0,4}&?(?:'\w{1,12}[ ])?[A-Za-z_][\w.]{0,40}(?:[\[<][\w., |\[\]]{0,40}[\]>])?[?!]?(?:[ ]\|[ ]\w{1,20})?[ \t]{0,4}=(?![=>])[ \t]{0,4})?"
_SIGN = re.compile(
    rf"{_CLOSE}(?:[ ]?\([^()\r\n]{{1,40}}\)|[ ]?[.·…_?]{{1,40}}(?=[ ]?[:=]))?[ \t\u00a0]{{0,8}}"
    rf"(?:(?P<colon>(?::(?![:=])|[：﹕꞉]){_TYPE})|(?P<equals>[=＝](?![=>])|[ ][\w.*&<>?\[\]]{{2,30}}[ ]=[ ](?=[\"'`])|[ ]?\{{[^{{}}\r\n]{{1,40}}\}}[ ]=[ ](?=\"))"
    rf"|(?P<compared>[=!]==?(?!=))|(?:\[\][ \t]{{0,4}}=|:=|=>|->|<-|→|⇒|➜|\|\|=|\?\?=|\?=|(?:\|\||\?\?|or)[ ](?=[\"'`])|[ ][—–-][ ]|(?<=[ ])[—–-](?=[ ])))"
    rf"{_MARKUP}"
)
_NEXT_LINE = re.compile(
    r"[ \t]{0,8}(?P<block>[|>][-+]?)?[ \t]{0,8}\r?\n[ \t>]{0,16}(?:\r?\n[ \t>]{0,16})?(?:(?:```|~~~)\w{0,12}\r?\n[ \t]{0,8})?"
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
    rf"(?:[ ]?(?:(?i:(?:(?<=[ ])(?:is|was|are|of|equals|ist|lautet|est|es|é|è|jest|has|been|will|be|now|set|changed|reset|updated|to|as|still|currently|called|becomes|with)\b))|=|:|[是为為はが])){{1,5}}:?{_MARKUP}[\[(]?"
    rf"|{_CLOSE}(?:[ ][\w'’@.-]{{1,24}}){{1,4}}(?:[ ]\([^()\r\n]{{1,40}}\))?[ ]?[:：=]{_MARKUP}"
    rf"|{_CLOSE}[ ](?:for|to|of)[ ](?:the[ ]|my[ ]|our[ ]){{0,1}}[\w.@-]{{1,40}}(?:[ ][\w.-]{{1,20}})?[ ]?[:=]{_MARKUP}"
    rf"|{_CLOSE}['’]s[ ]{_MARKUP}"
)
_BEFORE = re.compile(
    r"(?:(?P<quote>[\"'`])(?P<quoted>[^\s\"'`]{4,64})[\"'`]|(?<![^\s(,:])(?P<bare>[^\s\"'`\]]{4,64}))"
    r"[ ](?:as|is|for|be)[ ](?:(?:the|my|our|your|a|his|her|their|its|new|old|root|admin|user|db|default)[ ]){0,3}\Z"
)

_LONGEST_HEAD = 400
_LONGEST_INDENT = 40
_TABLE_RULE = re.compile(r"[ \t>]*\|?[ \t]*:?-+[-:| \t]*(?:\r?\n|\Z)")
_TABLE_ROW = re.compile(r"[ \t>]*\|?(?P<cells>[^\r\n|]*(?:\|[^\r\n|]*)+)(?:\r?\n|\Z)")

# --- values -------------------------------------------------------------------------------

_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "„": "“", "«": "»", "”": "”"}
_OPENING = re.compile(
    r"(?:(?:new[ ])?(?!(?:\w+\.)*(?i:get\w*|\w*env\w*|\w*input|\w*prompt|\w*read\w*|\w*ask\w*)\()[A-Za-z_][\w.:]{0,40}!?\([ ]?)?"
    r"(?:[bBrRuUfF@L$]{0,2}(?P<quote>[\"'](?:(?<=\")\"\"|(?<=')'')?)|(?P<other>[`“‘„«”]))"
)
_LOOKED_AT = 512
"""Characters of a value that decide; the rest is taken with them, so that the time is linear."""
_SIZE = rf"{{1,{_LOOKED_AT}}}+"
_BARE = re.compile(rf"(?:[^\s\"'`<>|\\“”]|\\(?![nrtu\"'/\\])|(?<=\w)'(?=\w)){_SIZE}")
_BARE_IN_CODE = re.compile(rf"(?:[^\s\"'`<>|\\“”,;&(){{}}\[\]]|\\(?![nrtu\"'/\\])){_SIZE}")
_BARE_IN_QUERY = re.compile(rf"[^\s\"'`<>|\\&#;,()\[\]{{}}]{_SIZE}")
_REST = re.compile(r"[^\s\"'`<>|\\]*")
_TAIL = ".,;:!?)]}*_~"
_PLACEHOLDER = re.compile(
    r"\$[A-Za-z_]\w*|\$\{.*|\$\(.*|\{\{?.*|<.*|%[A-Za-z_]*%|%[sdr]|\*{2,}|[xX]{3,}|\.{2,}|…|-{2,}|\?+|_{2,}|#.*|@[A-Z_]+@|\[.*|\\.*|/|[|&=:>]+.*"
    r"|(?:<|\[|\{)?(?:your|my|the|some|an?|insert|enter|put|replace)[-_ ](?:[A-Za-z]+[-_ ]?)*(?:here)?(?:>|\]|\})?"
)
_QUOTED_WORD = re.compile(
    r"(?:yes|no|true|false|none|null|str|string|optional|required)|(?:%[sdr]|\{\w*\}|[^\w\s])+",
    re.IGNORECASE,
)
_CODE_WORD = re.compile(
    r"(?:str|int|bool|bytes|string|number|none|null|nil|true|false|undefined|required|optional|any|object|text|"
    r"varchar|char|float|double|void|self|cls|this|type|default|empty|unset|yes|no|on|off|ok|all|and|or|not|if|is|in|as|the|a|an|of|to|for|"
    r"unicode|list|dict|tuple|set|callable|function|method|class|property|field|value|values|integer|boolean|"
    r"(?:[A-Za-z_]*_)?(?:password|passwd|passphrase|pwd|pw|pass|secret|token|api_?key|key|credentials?|auth)s?(?:_[A-Za-z_]+)?)[?!]?",
    re.IGNORECASE,
)
_MEMBER = re.compile(r"[A-Za-z_$]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+(?![\w@!#%^*+?~-])")
_SHORTEST, _SHORTEST_TOKEN, _SHORTEST_QUERY, _LONGEST_SHORT = 3, 6, 8, 12
_SPECIAL = re.compile(r"[^\s]*[A-Za-z0-9][!@#$%^&*+~?=][^\s]*[A-Za-z0-9!@#$%^&*]")


class _Value(NamedTuple):
    text: str
    start: int
    end: int
    is_quoted: bool
    after: str
    """The character behind a bare value."""


def find_assigned(text: str) -> list[Span]:
    """Find the values beside names of secrets."""
    spans: list[Span] = []
    end = table_head = table_end = 0
    for name in _names(text):
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


def _end_of(text: str, value: _Value) -> int:
    """Return the end of a secret, of which only the first characters were looked at."""
    if value.end - value.start < _LOOKED_AT - len(_TAIL):
        return value.end
    if not value.is_quoted:
        found = _REST.match(text, value.end)
        return found.end() if found is not None else value.end
    line = _end_of_line(text, value.end)
    ends = [end for quote in "\"'`”’“»" if (end := text.find(quote, value.end, line)) >= 0]
    return min(ends, default=line)


def _value_of(text: str, name: _Name) -> _Value | None:
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


def _of_query(text: str, name: _Name, before: str) -> _Value | None:
    found = _BARE_IN_QUERY.match(text, name.end + 1)
    last = name.text.rsplit(".", 1)[-1].lower()
    if found is None:
        return _sure_value(text, name)
    value = found[0].rstrip(_TAIL)
    if name.secrecy != "certain" and not (before == ";" and last == "pwd"):
        is_named = name.secrecy is not None
        if not is_named and (last not in _QUERY_NAMES or before == "."):
            return None
        shortest = _SHORTEST_TOKEN if is_named else _SHORTEST_QUERY
        if len(value) < shortest or not any(map(str.isdigit, value)):
            return None
    elif _PLACEHOLDER.fullmatch(value) or _is_code(value, text[found.end() : found.end() + 1]):
        return None
    return _Value(value, found.start(), found.start() + len(value), False, "") if value else None


def _sure_value(text: str, name: _Name) -> _Value | None:
    found = _SIGN.match(text, name.end)
    return _after_sign(text, name, found) if found and name.secrecy else None


def _after_sign(text: str, name: _Name, found: re.Match[str]) -> _Value | None:
    is_colon, is_equals = found["colon"] is not None, found["equals"] is not None
    position = found.end()
    if (line := _NEXT_LINE.match(text, position)) is not None:
        return _on_next_line(text, name, line) if is_colon or found[0].strip() else None
    value = _value_at(text, position, is_code=is_equals)
    if value is None:
        return None
    if is_equals and not value.is_quoted and _begins_line(text, name.start):
        value = _whole_word(text, value, found[0])
    if found["compared"] is not None and not value.is_quoted:
        return None
    if not _is_plain(found, value, name) and not _looks_random(value.text):
        return None
    return value if _is_secret(value, name.secrecy) else None


def _is_plain(found: re.Match[str], value: _Value, name: _Name) -> bool:
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


def _whole_word(text: str, value: _Value, sign: str) -> _Value:
    """Extend a value in a line of its own, such as `PASSWORD=a&b;c`, to the next space."""
    if sign.strip() != sign:
        return value
    found = _BARE.match(text, value.start)
    if (
        found is None
        or text[found.end() : found.end() + 1] not in ("", "\n", "\r")
        or ";" in found[0]
    ):
        return value
    return value._replace(text=found[0], end=found.end())


def _on_next_line(text: str, name: _Name, line: re.Match[str]) -> _Value | None:
    value = _value_at(text, line.end(), is_code=False)
    if value is None or name.secrecy == "short":
        return None
    rest = text[value.end : value.end + 4]
    is_alone = rest.lstrip("\"'`*_.,;”") == "" or rest.lstrip("\"'`*_.,;”")[:1] in ("\r", "\n")
    if not is_alone or value.text.endswith((":", "=")):
        return None
    is_certain = line["block"] is not None and name.secrecy == "certain"
    return value if is_certain or _looks_random(value.text) else None


_BEFORE_OPTION = ("", " ", "\t", "\n", '"', "'", "`", "[", "(", ",")
_CODE_FOLLOWS = ",;={}+/%&\\"


def _in_other_forms(text: str, name: _Name) -> _Value | None:
    after = text[name.end : name.end + 1]
    if after and after in _CODE_FOLLOWS:
        return _before(text, name) if after in ";," else None
    return _in_markup(text, name) or _in_prose(text, name) or _before(text, name)


def _in_markup(text: str, name: _Name) -> _Value | None:
    """Return the value in an element, a call, or a pair of a name and a value."""
    if (found := _PAIR.match(text, name.end)) is not None and _is_pair(text, name):
        value = _value_at(text, found.end(), is_code=False)
        if value is not None and " " not in value.text and _is_secret(value, name.secrecy):
            return value
    if (found := _ARGUMENT.match(text, name.end)) is not None:
        value = _value_at(text, found.end(), is_code=True)
        if value is not None and _is_argument(value) and _is_secret(value, name.secrecy):
            return value
    is_element = text[name.start - 1 : name.start] in ("<", ":", '"', "'")
    if is_element and (found := _ELEMENT.match(text, name.end)) is not None:
        value = _until(text, found.end(), "<")
        if value is not None and _is_secret(value, name.secrecy) and " " not in value.text:
            return value
    return None


def _in_prose(text: str, name: _Name) -> _Value | None:
    """Return the value in a sentence, a table, below a heading, or behind an option."""
    forms = [_AFTER_ELEMENT, _CELL, _IS, _TAB, *([_HEADING] if _is_heading(text, name) else [])]
    for form in forms:
        if (found := form.match(text, name.end)) is not None:
            value = _value_at(text, found.end(), is_code=False)
            if value is not None and _is_said(value, name):
                return value
    if (found := _SPACE.match(text, name.end)) is not None:
        value = _value_at(text, found.end(), is_code=False)
        if value is not None and _is_behind(value, text, name):
            return value
    return None


def _is_pair(text: str, name: _Name) -> bool:
    before = text[max(0, name.start - 16) : name.start].lower()
    return (
        re.search(
            r"(?:name|key|id|field|var|variable|header|type)[\"']?\s{0,4}[:=]\s{0,4}[\"']?\Z",
            before,
        )
        is not None
    )


def _is_argument(value: _Value) -> bool:
    return (
        not re.search(r"\s|[:?]\Z", value.text)
        and _CODE_WORD.fullmatch(value.text) is None
        and (_looks_random(value.text))
    )


def _is_heading(text: str, name: _Name) -> bool:
    line = text.rfind("\n", max(0, name.start - 60), name.start) + 1
    start = text[line : name.start]
    return bool(
        re.fullmatch(r"[ \t>]*(?:#{1,6}|\*\*|[-*])?[ \t*`_]*(?:[\w-]{1,20}[ ]){0,2}", start)
    ) and (
        "#" in start or "*" in start or (line == 0 or name.start - line < 12)  # noqa: PLR2004
    )


def _is_said(value: _Value, name: _Name) -> bool:
    """Whether a value in prose or a table is a secret."""
    if name.secrecy == "short":
        return _is_secret(value, "short")
    if " " in value.text or _is_placeholder(value):
        return False
    if name.secrecy == "likely":
        return _is_secret(value, "likely")
    return _looks_random(value.text)


def _is_behind(value: _Value, text: str, name: _Name) -> bool:
    """Whether a value that follows a name after a space is a secret."""
    is_option = name.text.startswith("-") and text[name.start - 1 : name.start] in _BEFORE_OPTION
    if is_option:
        return (
            not value.text.startswith("-")
            and _is_secret(value, name.secrecy)
            and (
                value.is_quoted
                or _looks_random(value.text)
                or (
                    name.secrecy == "certain"
                    and text[value.end : value.end + 1] in ("", "\n", " ")
                    and value.text.isalnum()
                    and _is_command(text, name)
                )
            )
        )
    if value.is_quoted:
        return name.secrecy == "certain" and " " not in value.text and _looks_random(value.text)
    if name.secrecy == "likely" and _begins_line(text, name.start):
        return _is_secret(value, "likely")
    return _is_said(value, name) if name.secrecy != "likely" else False


def _is_command(text: str, name: _Name) -> bool:
    line = text.rfind("\n", max(0, name.start - 200), name.start) + 1
    return re.match(r"[ \t$>#]*[\w./-]+[ ]", text[line : name.start]) is not None


def _before(text: str, name: _Name) -> _Value | None:
    """Return the value in "use X as the password"."""
    if name.secrecy != "certain":
        return None
    start = max(0, name.start - 100)
    found = _BEFORE.search(text[start : name.start])
    if found is None:
        return None
    group = "quoted" if found["quote"] else "bare"
    value = _Value(
        found[group], start + found.start(group), start + found.end(group), bool(found["quote"]), ""
    )
    return value if _looks_random(value.text) and not _is_placeholder(value) else None


def _column(text: str, name: _Name) -> tuple[list[Span], int, int]:
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
            if len(cell) >= _SHORTEST and " " not in cell and not _PLACEHOLDER.fullmatch(cell):
                spans.append(Span(start, start + len(cell), "secret"))
    return spans, end, position


# --- the value itself ---------------------------------------------------------------------


def _value_at(text: str, position: int, *, is_code: bool) -> _Value | None:
    found = _OPENING.match(text, position)
    if found is not None and (found["quote"] or found["other"]):
        quote = found["quote"] or _QUOTES[found["other"]]
        return _quoted(text, found.end(), quote)
    bare = (_BARE_IN_CODE if is_code else _BARE).match(text, position)
    if bare is None:
        return None
    value = bare[0].rstrip(_TAIL)
    start = bare.start()
    if not is_code and value.count("(") < bare[0].count(")") and "(" in value:
        value = bare[0]
    end = start + len(value)
    after = "" if text.startswith(_MARK, end) else text[end : end + 1]
    return _Value(value, start, end, False, after) if value else None


def _quoted(text: str, start: int, quote: str) -> _Value | None:
    limit = min(start + _LOOKED_AT, len(text))
    line = text.find("\n", start, limit) if len(quote) == 1 else -1
    limit = line if line >= 0 else limit
    end = text.find(quote, start, limit)
    while end > start and _backslashes(text, end) % 2:
        end = text.find(quote, end + 1, limit)
    if end < 0:
        end = limit - 1 if text[limit - 1 : limit] == "\r" and limit > start else limit
    return _Value(text[start:end], start, end, True, "") if end > start else None


def _backslashes(text: str, end: int) -> int:
    before = text[max(0, end - 8) : end]
    return len(before) - len(before.rstrip("\\"))


def _end_of_line(text: str, start: int) -> int:
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    return end - 1 if text[end - 1 : end] == "\r" and end > start else end


def _until(text: str, start: int, sign: str) -> _Value | None:
    end = text.find(sign, start, start + _LOOKED_AT)
    value = text[start : end if end >= 0 else start + _LOOKED_AT].strip()
    return (
        _Value(value, start, start + len(value), False, sign)
        if value and "\n" not in value
        else None
    )


def _is_secret(value: _Value, kind: Secrecy | None) -> bool:
    """Whether a value after a sign is a secret."""
    shown = value.text[:_LOOKED_AT]
    if _is_placeholder(value):
        return False
    if kind == "certain":
        return value.is_quoted or (len(shown) >= _SHORTEST and not _is_code(shown, value.after))
    if " " in shown or not any(map(str.isdigit, shown)) or _MEMBER.fullmatch(shown):
        return False
    if kind == "short":
        return _SHORTEST <= len(shown) <= _LONGEST_SHORT and value.after not in ("(", "[")
    return (
        len(shown) >= _SHORTEST_TOKEN
        and _looks_random(shown)
        and (value.is_quoted or not _is_code(shown, value.after))
    )


def is_secret_value(value: object, kind: Secrecy) -> bool:
    """Whether the JSON value of a key of this kind looks like a secret."""
    if not isinstance(value, str | int):
        return False
    text = str(value)
    if not any(map(str.isdigit, text)) or any(map(str.isspace, text)):
        return False
    if kind == "short":
        return len(text) >= _SHORTEST
    return (
        isinstance(value, str) and len(text) >= _SHORTEST_TOKEN and _looks_random(text[:_LOOKED_AT])
    )


def _is_placeholder(value: _Value) -> bool:
    shown = value.text[:_LOOKED_AT]
    if value.is_quoted and (shown[0] in " ),;:]}" or _QUOTED_WORD.fullmatch(shown)):
        # The quotation mark may end a text that the name is in.
        return True
    return _PLACEHOLDER.fullmatch(shown) is not None or shown.startswith("[redacted")


def _is_code(value: str, after: str) -> bool:
    """Whether a bare value is a type, a literal, a call, a variable or a field."""
    if _CODE_WORD.fullmatch(value) or after in ("(", "[") or value.startswith("("):
        return True
    if re.match(r"[A-Za-z_][\w.]{0,64}[(\[]", value):
        return True
    return _MEMBER.fullmatch(value) is not None and not any(map(str.isdigit, value))


def _looks_random(value: str) -> bool:
    """Whether a word is none of prose or code: it has a digit or a sign inside."""
    if len(value) < 4 or (value.isnumeric() and len(value) < 4):  # noqa: PLR2004
        return False
    if re.fullmatch(
        r"[\w.]*\w\(.*|v?[0-9]+(?:\.[0-9]+)+\S?|[0-9.,]+(?:%|ms|s|kb|mb|px)?|\w+://\S*|[./~]\S*/\S*|<\S*|\S*[(]\S*[)]",
        value,
        re.IGNORECASE,
    ):
        return value.isdigit()
    return any(map(str.isdigit, value)) or _SPECIAL.fullmatch(value) is not None
