"""Secrets of every kind that is built in, made up by chance."""

from __future__ import annotations

import base64
import json
import string

from hypothesis import strategies as st

ALNUM = string.ascii_letters + string.digits


def is_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _word(alphabet: str, size: int, more: int = 0) -> st.SearchStrategy[str]:
    return st.text(alphabet=alphabet, min_size=size, max_size=size + more)


def _with_checksum(digits: str) -> str:
    return next(digits + last for last in string.digits if is_luhn(digits + last))


@st.composite
def _cards(draw: st.DrawFn) -> str:
    start, size = draw(
        st.sampled_from(
            [
                *(
                    ("4", 13),
                    ("4", 16),
                    ("4", 19),
                    ("53", 16),
                    ("2221", 16),
                    ("34", 15),
                    ("37", 15),
                ),
                *(("300", 14), ("36", 14), ("3528", 16), ("6011", 16), ("65", 19), ("62", 17)),
            ]
        )
    )
    rest = size - len(start) - 1
    digits = _with_checksum(start + draw(_word(string.digits, rest)))
    gap = draw(st.sampled_from(["", " ", "-"]))
    return gap.join(digits[at : at + 4] for at in range(0, size, 4))


@st.composite
def _ibans(draw: st.DrawFn) -> str:
    country, size = draw(
        st.sampled_from([("DE", 22), ("GB", 22), ("NO", 15), ("MT", 31), ("FR", 27)])
    )
    account = draw(_word(string.ascii_uppercase + string.digits, size - 4))
    number = int("".join(str(int(sign, 36)) for sign in f"{account}{country}00"))
    iban = f"{country}{98 - number % 97:02}{account}"
    gap = draw(st.sampled_from(["", " "]))
    return gap.join(iban[at : at + 4] for at in range(0, size, 4))


def _base64url(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


_JWTS = st.builds(
    lambda subject, signature: (
        f"{_base64url({'alg': 'HS256'})}.{_base64url({'sub': subject})}.{signature}"
    ),
    _word(ALNUM, 8, 20),
    _word(ALNUM + "_-", 20, 23),
)
_PRIVATE_KEYS = st.builds(
    lambda kind, lines, end: (
        f"-----BEGIN {kind}PRIVATE KEY-----\n" + "\n".join(lines) + end.format(kind)
    ),
    st.sampled_from(["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "]),
    st.lists(_word(ALNUM + "+/", 64), min_size=1, max_size=4),
    st.sampled_from(["\n-----END {}PRIVATE KEY-----", ""]),
)


def _prefixed(prefix: str, alphabet: str, size: int) -> st.SearchStrategy[str]:
    return _word(alphabet, size).map(lambda rest: f"{prefix}{rest}")


_KEYS = st.one_of(
    _prefixed("sk-A1", ALNUM, 46),
    _prefixed("sk-ant-api03-", ALNUM, 80),
    _prefixed("ghp_", ALNUM, 36),
    _prefixed("gho_", ALNUM, 36),
    _prefixed("github_pat_", ALNUM + "_", 82),
    _prefixed("AKIA", string.ascii_uppercase + string.digits, 16),
    _prefixed("AIza", ALNUM + "_-", 35),
    _prefixed("xoxb-", ALNUM + "-", 40),
    _prefixed("hf_", ALNUM, 34),
    _prefixed("glpat-", ALNUM + "_-", 20),
)
_ASSIGNED = st.builds(
    lambda name, value: f"{name}{value}",
    st.sampled_from(
        ["api_key=", "password=", 'x-api-key: "', '"apikey": "', "DB_PASSWORD = ", "token="]
    ),
    _word(ALNUM, 10, 10).map(lambda value: f"q7{value}"),
)
_STRATEGIES: dict[str, st.SearchStrategy[str]] = {
    "authorization": _word(ALNUM + "+/", 12, 40).map(
        lambda value: f"Authorization: Basic {value}=="
    ),
    "cookie": _word(ALNUM, 10, 30).map(lambda value: f"Set-Cookie: session={value}; HttpOnly"),
    "api_key": _KEYS,
    "assigned": _ASSIGNED,
    "bearer_token": _word(ALNUM, 12, 40).map(lambda value: f"Bearer q7{value}"),
    "jwt": _JWTS,
    "email": st.builds(
        lambda name, host: f"{name}@{host}.example.com",
        _word(ALNUM, 1, 12),
        _word(string.ascii_lowercase, 1, 9),
    ),
    "card_number": _cards(),
    "iban": _ibans(),
    "private_key": _PRIVATE_KEYS,
}
KINDS = sorted(_STRATEGIES)


def secrets(kind: str) -> st.SearchStrategy[str]:
    return _STRATEGIES[kind]
