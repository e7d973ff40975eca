"""Finds the names of secrets in text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ollama_otel.redaction._engine import MARK, MARK_BEGIN
from ollama_otel.redaction._names import Secrecy, secrecy

__all__ = ["Name", "names_in"]

# Every name of a secret has one of these; names are cut out of the text around them.
_CORES = (
    *("passw", "passphrase", "passcode", "passkey", "pwd", "secret", "token", "key", "credential"),
    *("creds", "cookie", "auth", "jwt", "session", "connection", "phrase", "contrase", "passord"),
    *(
        "senha",
        "wachtwoord",
        "kennwort",
        "bindpw",
        "rootpw",
        "mot de passe",
        "requirepass",
        "mnemonic",
        "signature",
        "bearer",
    ),
    *("пароль", "密码", "密碼", "パスワード", "비밀번호"),
)
# These are parts of other words, too, and count as whole words only.
_WORDS = (
    *("pass", "pw", "pin", "otp", "cvv", "cvc", "ssn", "sig", "sas", "sid", "code", "hmac", "dsn"),
    *("psk", "pat", "answer", "haslo", "hasło", "heslo", "parola", "mdp", "policy", "ticket"),
    *("assertion", "seed", "st", "mfa", "totp"),
)
_NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_LONGEST_NAME = 64

_COMMON = re.compile(
    r"[\w. -]*?(?:cookies?2?|authorization|pwd|bearer|jwt|credentials?|creds|authkey|passkey|parola|contraste)",
    re.IGNORECASE,
)


class Name(NamedTuple):
    text: str
    start: int
    end: int
    secrecy: Secrecy | None


def names_in(text: str) -> Iterator[Name]:
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
    mark = text.rfind(MARK_BEGIN, max(0, start - _LONGEST_NAME - len(MARK_BEGIN)), start)
    found = MARK.match(text, mark) if mark >= 0 else None
    return found is not None and found.end() > start


def _name_around(text: str, start: int, end: int) -> Name:
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
    return Name(name, start, end, kind)


def _in_text(name: str, kind: Secrecy | None) -> Secrecy | None:
    """Return what a name says in text, where a few are words of prose and code, too."""
    return "likely" if kind == "certain" and _COMMON.fullmatch(name) else kind


def _stronger(one: Secrecy | None, other: Secrecy | None) -> Secrecy | None:
    return other if other == "certain" or one is None else one
