"""Removes secrets from text: one function per kind of secret, each `str` to `str`.

A mark such as `[redacted: email]` replaces each secret. Redacting twice changes nothing. Each
function runs in linear time for any text, and fast if there is nothing to find. A long text is
searched block by block, so that other threads can run in between; lines are never split, so a
line of a megabyte blocks them for a few tenths of a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps

from ollama_otel.errors import SettingsError

__all__ = [
    "BUILT_IN",
    "Redactor",
    "api_keys",
    "authorization",
    "bearer_tokens",
    "card_numbers",
    "cookies",
    "emails",
    "ibans",
    "is_innocent",
    "is_secret_key",
    "pattern",
    "private_keys",
]

Redactor = Callable[[str], str]
"""Returns a string without its secrets. It gets single strings, never a JSON document."""

_MARK = re.compile(r"(\[redacted: [^\[\]]{1,64}\])")
_KIND = re.compile(r"[^\[\]\r\n]{1,64}")

_AUTHORIZATION = re.compile(
    r"""
    (authorization \\{0,7}["']? [ \t]{0,8} [:=] [ \t]{0,8} \\{0,7}["']?)
    (?!\[redacted)
    (?: (?:digest|oauth|hawk|signature|aws4-hmac-sha256) [ \t] [^\r\n]*
      | (?:basic|bearer|negotiate|ntlm|token|api-?key|key) [ \t]+ (?!\[redacted) [^\s"'\\]+
      | [^\s"'\\,;<>{}$\[]{8,}
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
# A password may contain `@`, which also ends it.
_URL_PASSWORD = re.compile(r"(://[^\s/:@\[\]\"']{0,64}:)(?!\[redacted)[^\s/\"']{1,128}(?=@)")
_COOKIE = re.compile(
    r"""
    (cookie2? \\{0,7}["']? [ \t]{0,8} : [ \t]{0,8} \\{0,7}["']?)
    (?!\[redacted)
    [^\s=;,"'\\]{1,256} (?: ="[^"\r\n]*" | = )
    (?: [^\r\n"'\\=]++ | ="[^"\r\n]*" | = )*+
    """,
    re.IGNORECASE | re.VERBOSE,
)
# The words after "bearer" in prose have neither digits nor capitals inside.
_BEARER = re.compile(
    r"""
    \b([Bb]earer|BEARER) ([ \t]+)
    (?: (?= [0-9] | [A-Za-z._~+/=-] [a-z._~+/=-]{0,64} [A-Z0-9] ) [A-Za-z0-9._~+/=-]{6,}
      | [A-Za-z0-9._~+/=-]{24,}
    )
    """,
    re.VERBOSE,
)
_JWT = re.compile(
    r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){0,3}"
)
_KEY_SHAPES = re.compile(
    r"""
    (?<![A-Za-z0-9])
    (?: sk- (?= [a-z_-]{0,64} [A-Z0-9] ) [A-Za-z0-9_-]{16,}
      | [sr]k_(?:live|test)_ [A-Za-z0-9]{10,}
      | gh[pousr]_ [A-Za-z0-9]{20,}
      | github_pat_ [A-Za-z0-9_]{20,}
      | glpat- [A-Za-z0-9_-]{16,}
      | (?:AKIA|ASIA) [A-Z0-9]{16} (?![A-Za-z0-9])
      | AIza [A-Za-z0-9_-]{30,}
      | xox[abeoprs]- [A-Za-z0-9-]{10,}
      | hf_ [A-Za-z0-9]{30,}
      | gsk_ [A-Za-z0-9]{30,}
      | npm_ [A-Za-z0-9]{36}
      | pypi- [A-Za-z0-9_-]{50,}
    )
    """,
    re.VERBOSE,
)
# Code that handles secrets has none: types, literals, calls, variables and fields are kept.
_ASSIGNMENT = re.compile(
    r"""
    ( (?: (?P<sure> api[_-]?key | access[_-]?key | access[_-]?token | refresh[_-]?token
                  | auth[_-]?token | client[_-]?secret | secret[_-]?key
                  | password | passwd | passphrase
                  | (?<=["']) pwd (?=\\{0,7}["']) | (?<=;) pwd )
        | (?P<secret> secret | private[_-]?key )
        | token )
      \\{0,7}["']? [ \t]{0,8} (?: :(?!:) | (?P<equals> =(?!=) ) ) [ \t]{0,8} )
    (?!\\{0,7}["']?\[redacted)
    (?: (?P<quote> \\{0,7}["'] ) (?P<quoted> (?: [^"'\\\r\n]++ | \\++[^"'\r\n] )++ )
      | (?! (?: str | int | bool | bytes | string | none | null | nil | true | false | undefined
              | required | optional | password | secret | token | api_?key ) \b
          | (?: self | cls | this | args | os | env | config | settings | request | process ) \.
          | [A-Za-z_][\w.]{0,64} [(\[] )
        (?P<bare> [^\s"'\\`<>{}()\[\]$=:,;&|*] [^\s"'\\`<>{}()\[\],;&]* )
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_HOST = r"@(?:[\w-]{1,63}\.)+(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24})"
# Text that follows without a gap is included: otherwise a second run would find more.
_EMAIL = re.compile(rf"(?<![\w.%+-])(?!git@)[\w.%+-]++{_HOST}(?:[\w.%+-]*+{_HOST})*")
_CARD = re.compile(
    r"""
    (?<![0-9A-Za-z]) (?<![0-9]\.)
    [2-6]
    (?: [0-9]{12,18}
      | [0-9]{2,5} ([ -]) [0-9]{3,6} (?: \1 [0-9]{1,6} ){1,4}
    )
    (?![0-9A-Za-z]) (?!\.[0-9])
    """,
    re.VERBOSE,
)
# Visa; Mastercard and Mir; American Express; Diners; JCB; Discover, Maestro, UnionPay.
_ISSUED = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2[2-7][0-9]{14}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[689][0-9])[0-9]{11}|(?:35|50|5[6-9]|6[0-9])[0-9]{14,17}"
)
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")
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
_BASE64_LINES = r"(?:(?:\\[nr]|\s)*+[A-Za-z0-9+/=]{20,})*+(?:(?:\\[nr]|\s)*+[A-Za-z0-9+/=]+\Z)?"
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:[^-]|-(?!----))*+-----END (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rf"|(?:(?:\\[nr]|\s)*+[A-Za-z-]{{1,32}}:[^\r\n\\]{{1,128}})*+{_BASE64_LINES})"
)

_SECRET_KEY = re.compile(
    r"(?:proxy)?authorization|(?:set)?cookie|secret|passw(?:or)?d|passphrase|pwd|clientsecret"
    r"|(?:x?api|access|secret|secretaccess|awssecretaccess|private)key"
    r"|(?:access|refresh|id|api|bearer|session|x?auth)token"
)
# Searching for these first costs a hundredth of searching for the patterns.
_KEY_STARTS = (
    *("sk-", "k_live_", "k_test_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    *("glpat-", "AKIA", "ASIA", "AIza", "xox", "hf_", "gsk_", "npm_", "pypi-"),
)
_SECRET_NAMES = ("key", "token", "secret", "passw", "passphrase", "pwd")
_SHORTEST_TOKEN = 6
_SIGNS = re.compile(r"[@=:0-9]|earer|EARER")
"""Each secret shorter than the shortest key (`xoxb-` and ten characters) has one of these."""
_SHORTEST_PLAIN = 15
_BLOCK = 4096
"""Characters after which the next line starts a new block."""


def is_innocent(text: str) -> bool:
    """Whether a text is too short and too plain for any of the built-in redactors.

    It costs a tenth of calling them all, and most texts in a body are short field names.
    """
    return len(text) < _SHORTEST_PLAIN and _SIGNS.search(text) is None


@lru_cache(maxsize=1024)
def is_secret_key(name: str) -> bool:
    """Whether the value under a JSON key of this name is always a secret.

    Ignores case, `-` and `_`. `token` does not count: in log probabilities it is text.
    """
    plain = name.lower().replace("_", "").replace("-", "")
    return _SECRET_KEY.fullmatch(plain) is not None


def pattern(regex: str | re.Pattern[str], kind: str = "pattern") -> Redactor:
    """Return a redactor that replaces each match of `regex` by `[redacted: KIND]`.

    Existing marks are left alone. Raises SettingsError if `regex` is not a regular expression
    for text, or `kind` has brackets, a line end, or not 1 to 64 characters.
    """
    if not _KIND.fullmatch(kind):
        raise SettingsError(
            f"expected a kind of 1 to 64 characters without [ and ], found {kind!r}"
        )
    try:
        compiled = re.compile(regex)
        compiled.search("")
    except (re.error, TypeError) as error:
        raise SettingsError(
            f"expected a regular expression for text, found {regex!r}: {error}"
        ) from error
    mark = f"[redacted: {kind}]"

    def redact(text: str) -> str:
        if compiled.search(text) is None:
            return text
        parts = _MARK.split(text)
        # The odd items are marks; empty matches are kept.
        parts[::2] = [compiled.sub(lambda found: found[0] and mark, part) for part in parts[::2]]
        return "".join(parts)

    return redact


def _by_blocks(redactor: Redactor) -> Redactor:
    """Run a redactor over a few lines at a time; its matches must not span lines."""

    @wraps(redactor)
    def redact(text: str) -> str:
        return redactor(text) if len(text) <= _BLOCK else "".join(map(redactor, _blocks(text)))

    return redact


def _blocks(text: str) -> Iterator[str]:
    start = 0
    while end := text.find("\n", start + _BLOCK) + 1:
        yield text[start:end]
        start = end
    yield text[start:]


def private_keys(text: str) -> str:
    """Redact private keys in PEM format, also truncated ones."""
    if "-----BEGIN " not in text:
        return text
    return _PRIVATE_KEY.sub("[redacted: private_key]", text)


@_by_blocks
def authorization(text: str) -> str:
    """Redact the values of `Authorization` headers, and passwords in URLs."""
    if "://" in text:
        text = _URL_PASSWORD.sub(r"\1[redacted: password]", text)
    if "uthorization" not in text and "AUTHORIZATION" not in text:
        return text
    return _AUTHORIZATION.sub(r"\1[redacted: authorization]", text)


@_by_blocks
def cookies(text: str) -> str:
    """Redact the values of `Cookie` and `Set-Cookie` headers."""
    if "ookie" not in text and "COOKIE" not in text:
        return text
    return _COOKIE.sub(r"\1[redacted: cookie]", text)


@_by_blocks
def bearer_tokens(text: str) -> str:
    """Redact tokens after the word `Bearer`, and JSON Web Tokens anywhere."""
    if "earer" in text or "BEARER" in text:
        text = _BEARER.sub(r"\1\2[redacted: bearer_token]", text)
    return _JWT.sub("[redacted: bearer_token]", text) if "eyJ" in text else text


@_by_blocks
def api_keys(text: str) -> str:
    """Redact keys of well-known formats, and values assigned to names such as `password`."""
    if any(start in text for start in _KEY_STARTS):
        text = _KEY_SHAPES.sub("[redacted: api_key]", text)
    if "=" not in text and ":" not in text:
        return text
    lowered = text.lower()
    if any(name in lowered for name in _SECRET_NAMES):
        return _ASSIGNMENT.sub(_assigned, text)
    return text


def _assigned(found: re.Match[str]) -> str:
    if not _is_secret_value(found):
        return found[0]
    return f"{found[1]}{found['quote'] or ''}[redacted: secret]"


def _is_secret_value(found: re.Match[str]) -> bool:
    value = found["quoted"] or found["bare"]
    if found["sure"] or (found["secret"] and (found["quoted"] or found["equals"])):
        return True
    if found["secret"]:
        return any(map(str.isdigit, value))
    # "token" is a word of prose and of code about language models.
    return " " not in value and len(value) >= _SHORTEST_TOKEN and any(map(str.isdigit, value))


@_by_blocks
def emails(text: str) -> str:
    """Redact e-mail addresses."""
    return _EMAIL.sub("[redacted: email]", text) if "@" in text else text


@_by_blocks
def card_numbers(text: str) -> str:
    """Redact payment card numbers: 13 to 19 digits, a known issuer, a valid checksum."""
    return _without_checked(text, _CARD, _card_length, "[redacted: card_number]")


@_by_blocks
def ibans(text: str) -> str:
    """Redact account numbers (IBAN): the length of their country and a valid checksum."""
    return _without_checked(text, _IBAN, _iban_length, "[redacted: iban]")


def _without_checked(
    text: str, candidates: re.Pattern[str], length_of: Callable[[str], int], mark: str
) -> str:
    """Replace the first `length_of` characters of each candidate; 0 means that it is not one."""
    pieces: list[str] = []
    position = search = 0
    while found := candidates.search(text, search):
        length = length_of(found[0])
        if not length:
            search = found.start() + 1
            continue
        pieces += [text[position : found.start()], mark]
        position = search = found.start() + length
    return "".join((*pieces, text[position:])) if pieces else text


def _card_length(candidate: str) -> int:
    groups = candidate.replace("-", " ").split(" ")
    while groups:
        digits = "".join(groups)
        if _ISSUED.fullmatch(digits) and _has_luhn_checksum(digits):
            return len(digits) + len(groups) - 1
        # The security code may follow the number.
        groups.pop()
    return 0


_DOUBLED = {str(digit): sum(divmod(2 * digit, 10)) for digit in range(10)}


def _has_luhn_checksum(digits: str) -> bool:
    doubled = map(_DOUBLED.__getitem__, digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _iban_length(candidate: str) -> int:
    length = _IBAN_LENGTHS.get(candidate[:2].upper(), 0)
    found = re.match(rf"(?:[ -]?[A-Za-z0-9]){{{length}}}(?![A-Za-z0-9])", candidate)
    if not length or found is None:
        return 0
    iban = re.sub(r"[ -]", "", found[0])
    number = int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4]))
    return found.end() if number % 97 == 1 else 0


BUILT_IN: tuple[Redactor, ...] = (
    private_keys,
    authorization,
    cookies,
    bearer_tokens,
    api_keys,
    emails,
    ibans,
    card_numbers,
)
"""All redactors in the order in which they run: those whose matches contain others come first."""
