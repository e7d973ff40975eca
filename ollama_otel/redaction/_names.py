"""Recognises names of secrets by their words."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

__all__ = ["Secrecy", "is_secret_key", "secrecy"]

Secrecy = Literal["certain", "likely", "short"]
"""What a name says about its value.

`certain`: it is a secret. `likely`: it is one if it looks random. `short`: it is one if it has a
digit, like a PIN.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[0-9]+")

_PASSWORD = re.compile(
    r".*(?:password|passwort|passwd|passphrase|passcode|passkey|pwd|secret)s?"
    r"|pass?wo?r?ds?|psw|pword|passord|senha|contrasen[ya]|contrase.a|wachtwoord|haslo|has.o|parola"
    r"|jelszo|heslo|l.senord|mdp|motdepasse|salasana|pasahitza|kodeord|adgangskode|kennwort|(?:bind|root|user|admin|db|my)pw"
    r"|credentials?|creds?|mnemonic|jwt|bearer|authorization|(?:http|proxy)authorization"
    r"|(?:set)?cookies?2?|"
    r".*(?:api|access|secret|private|signing|encryption|account|master|license|licence|subscription"
    r"|storage|deploy|ssh|gpg|pgp|hmac|auth|sharedaccess)key"
    r"|.*(?:access|refresh|auth|bearer|session|security|secret|id|api|csrf|xsrf|oauth)token"
    r"|connectionstring|connstr"
    "|пароль|密码|密碼|口令|パスワード|비밀번호|암호|كلمةالمرور|סיסמה"
)
_CERTAIN_BEFORE = {
    "key": (
        "api access secret private signing sign sig encryption encrypt encrypted decryption account "
        "master license licence subscription storage deploy ssh gpg pgp rsa hmac aes auth "
        "authentication shared preshared psk wpa wep wifi webhook recovery backup admin root bot "
        "ssl tls jwt session product functions network wireless router vpn activation registration keystore"
    ),
    "keys": "api access secret private signing encryption ssh recovery",
    "token": (
        "access refresh auth api bearer session security secret id csrf xsrf oauth oauth2 personal "
        "github gh gitlab bot hf slack sas registry npm pypi discord telegram vault webhook reset "
        "verification deploy jwt sso login user app private service client identity admin "
        "openai anthropic ollama device push invite"
    ),
    "tokens": "access refresh auth api bearer session personal oauth",
    "string": "connection conn",
    "phrase": "seed recovery pass mnemonic secret backup",
    "words": "seed recovery mnemonic",
    "answer": "security secret",
    "signature": "access",
    "pass": (
        "db smtp mail user root admin ftp mysql pg postgres redis rabbitmq mongo imap ldap proxy "
        "email login http account database wifi sql ssh rds es elastic"
    ),
    "pw": "db smtp mail user root admin ftp my mysql pg redis ldap wifi login http",
    "auth": "basic redis rediscli proxy http requirepass",
    "access": "personal",
}
_CERTAIN_PAIRS = frozenset(
    (before, last) for last, words in _CERTAIN_BEFORE.items() for before in words.split()
)
_LIKELY = _words(
    "token auth pass pw sid sas dsn pat csrf xsrf session sessionid phpsessid jsessionid psk requirepass"
    " masterauth"
)
_LIKELY_BEFORE = {
    "id": _words("session"),
    "key": _words(
        "session service app client host customer consumer application server wallet device share "
        "tenant crypto data kms cipher symmetric bucket integration write project instrumentation "
        "ingestion routing team user x goog openai anthropic stripe aws azure google ai sendgrid "
        "maps gemini groq db"
    ),
    "code": _words("oauth auth authorization device"),
}
_LIKELY_PAIRS = frozenset(
    (before, last) for last, words in _LIKELY_BEFORE.items() for before in words
)
_SHORT = _words("pin otp totp cvv cvc cid ssn tan mfa puk nip")
_CODES = _words(
    "mfa otp totp 2fa fa verification security recovery backup access pin sms auth login confirmation "
    "unlock door alarm entry time tan factor cvv cvc"
)
_SHORT_PAIRS = frozenset(
    [(before, last) for last in ("code", "codes") for before in _CODES]
    + [
        (before, last)
        for last in ("number", "no")
        for before in ("ssn", "pin", "card", "tan", "security")
    ]
)
# Words that describe a secret, but do not name one.
_NO_SECRET = _words(
    "length policy hint name names count type types file filename path url uri link field fields label "
    "expiry expires expire expiration exp age min max rules rule strength changed updated created at date "
    "time enabled disabled required optional valid invalid verified present exists manager prompt help "
    "description error errors message placeholder regex pattern format version scheme status provider "
    "store backend class algorithm alg method mode size index env header headers param parameter "
    "arn rotation usage limit budget ids offset domain jar consent banner "
    "callback handler func function getter reader validator generator factory "
    "reset recovery confirm_url visible visibility match matches mismatch score category "
    "holder owner state stage struct from ref reference location dir directory in"
)
# The same secret in another place or form.
_VARIANTS = _words(
    "confirm confirmation again repeat old new prod dev test base value plain raw text b64 base64 "
    "encoded hash hashed"
)
_NO_TOKEN_BEFORE = _words(
    "eos bos pad unk sep cls mask stop start end first last next prev previous special max min num n "
    "per each total image img audio text prompt output input new current decoder encoder page "
    "continuation cancellation cancel sync cursor separator sentence word sub begin bad good top "
    "forced suppress any expected unexpected invalid valid str string name number op lex peek get "
    "put keyword operator literal comment newline indent dedent error eof type this that an a no "
    "every another one two extra lookahead single whole given same other cost price"
)
_NO_SECRET_FIRST = _words(
    "has is are no not use uses show hide forgot forget require requires required need needs ask "
    "change can must should get check validate verify prompt public foreign primary sort partition "
    "cache dict map keyboard"
)

_LONGEST_REMEMBERED: Final = 128
"""Characters."""


def secrecy(name: str) -> Secrecy | None:
    """Return what a name says about its value; None if it says nothing."""
    # Only short names are remembered: a body may have keys of a megabyte.
    return _remembered(name) if len(name) <= _LONGEST_REMEMBERED else _secrecy(name)


def _secrecy(name: str) -> Secrecy | None:
    words = [word.lower() for word in _WORD.findall(name)]
    while len(words) > 1 and (words[-1].isdigit() or words[-1] in _VARIANTS):
        words.pop()
    if not words or words[-1] in _NO_SECRET or words[0] in _NO_SECRET_FIRST:
        return None
    last = words[-1]
    pair = (words[-2] if len(words) > 1 else "", last)
    if _is_certain(words, pair):
        return "certain"
    if last in _SHORT or pair in _SHORT_PAIRS:
        return "short"
    if pair in _LIKELY_PAIRS or (last in _LIKELY and pair[0] not in _NO_TOKEN_BEFORE):
        return "likely"
    return None


_remembered = lru_cache(maxsize=4096)(_secrecy)


def _is_certain(words: list[str], pair: tuple[str, str]) -> bool:
    if pair in _CERTAIN_PAIRS or _PASSWORD.fullmatch(pair[1]):
        return True
    # `passWord` and `mot de passe` are one word, written as more.
    joined = ("".join(words[-2:]), "".join(words[-3:]))
    return any(map(_PASSWORD.fullmatch, joined)) or any(
        _PASSWORD.fullmatch(word) for word in words[:-1] if "key" not in word
    )


def is_secret_key(name: str) -> bool:
    """Whether the value under a JSON key of this name is always a secret.

    The words of the name decide, in any spelling: `db_password`, `dbPassword`, `DB-PASSWORD`.
    `token` alone does not count: in log probabilities it is text.
    """
    return secrecy(name) == "certain"
