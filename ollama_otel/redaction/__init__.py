"""Removes secrets from text: one function per kind of secret, each `str` to `str`.

A mark such as `[redacted: email]` replaces each secret. Redacting twice changes nothing. Each
function runs in linear time for any text, and fast if there is nothing to find. A long text is
searched piece by piece, so that other threads can run in between; most kinds do not split lines,
so a line of a megabyte blocks them for a few tenths of a second.
"""

from __future__ import annotations

import re

from ollama_otel.errors import SettingsError
from ollama_otel.redaction._assignments import find_assigned
from ollama_otel.redaction._commands import find_in_commands
from ollama_otel.redaction._engine import MARK, Redactor, Span, redactor
from ollama_otel.redaction._headers import find_authorization, find_cookies
from ollama_otel.redaction._names import is_secret_key
from ollama_otel.redaction._numbers import find_cards, find_ibans
from ollama_otel.redaction._private_keys import find_private_keys
from ollama_otel.redaction._tokens import SHORTEST_TOKEN, find_bearer_tokens, find_tokens

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
    "redact",
]

_MOST_ROUNDS = 3
"""The mark of one redactor may uncover a secret for another one."""
_KIND = re.compile(r"[^\[\]\r\n]{1,64}")
_HOST = r"@(?:[\w-]{1,63}\.)+(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24})"
# Text that follows without a gap is included: otherwise a second run would find more.
_EMAIL = re.compile(rf"(?<![\w.%+-])(?!git@)[\w.%+-]++{_HOST}(?:[\w.%+-]*+{_HOST})*")
_SIGNS = re.compile(r"[@=:|<>\"'`\d-]|earer|EARER")
"""Each secret shorter than the shortest token has one of these in or before it."""

_FIELD = re.compile(r"(?!.*_(?:live|test|prod)_)[a-z]+(?:_[a-z]+)*")
_LONGEST_FIELD = 20
"""Characters of the name of a field; tokens without digits and capitals are longer."""
_SEPARATOR = re.compile(r"[^A-Za-z0-9_.]")
"""There is one between a name and its value."""


def is_innocent(text: str) -> bool:
    """Whether a text is too short and too plain for any of the built-in redactors.

    It costs a tenth of calling them all, and most texts in a body are short field names.
    """
    if len(text) < SHORTEST_TOKEN:
        return _SIGNS.search(text) is None
    return len(text) <= _LONGEST_FIELD and _FIELD.fullmatch(text) is not None


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
        parts = MARK.split(text)
        # The odd items are marks; empty matches are kept.
        parts[::2] = [compiled.sub(lambda found: found[0] and mark, part) for part in parts[::2]]
        return "".join(parts)

    return redact


def _find_api_keys(text: str) -> list[Span]:
    if is_innocent(text):
        return []
    if _SEPARATOR.search(text) is None:
        # A single word, such as the name of a field.
        return find_tokens(text)
    return [*find_tokens(text), *find_in_commands(text), *find_assigned(text)]


def _find_emails(text: str) -> list[Span]:
    if "@" not in text:
        return []
    return [Span(*found.span(), "email") for found in _EMAIL.finditer(text)]


private_keys: Redactor = redactor(
    find_private_keys,
    "private_keys",
    "Redact private keys in PEM format and its relatives, also quoted or truncated ones.",
    by_lines=False,
)
authorization: Redactor = redactor(
    find_authorization,
    "authorization",
    "Redact the values of `Authorization` headers, and passwords and tokens in addresses.",
)
cookies: Redactor = redactor(
    find_cookies,
    "cookies",
    "Redact the values of `Cookie` and `Set-Cookie` headers.",
    by_lines=False,
)
bearer_tokens: Redactor = redactor(
    find_bearer_tokens,
    "bearer_tokens",
    "Redact tokens after the word `Bearer`, and JSON Web Tokens anywhere.",
)
api_keys: Redactor = redactor(
    _find_api_keys,
    "api_keys",
    "Redact tokens of well-known formats, and values beside names such as `password`.",
    by_lines=False,
)
emails: Redactor = redactor(_find_emails, "emails", "Redact e-mail addresses.")
card_numbers: Redactor = redactor(
    find_cards,
    "card_numbers",
    "Redact payment card numbers: 13 to 19 digits, a known issuer, a valid checksum.",
    by_lines=False,
)
ibans: Redactor = redactor(
    find_ibans,
    "ibans",
    "Redact account numbers (IBAN): the length of their country and a valid checksum.",
)

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


def redact(text: str) -> str:
    """Return a text in which marks replace the findings of all built-in redactors."""
    settled: dict[Redactor, str] = {}
    for each in BUILT_IN * _MOST_ROUNDS:
        if settled.get(each) != text:
            text = settled[each] = each(text)
    return text
