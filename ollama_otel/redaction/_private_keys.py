"""Finds private keys in text formats: PEM, OpenPGP, SSH, PuTTY, also quoted or cut off."""

from __future__ import annotations

import re

from ollama_otel.redaction._engine import Span

__all__ = ["find_private_keys"]

# What stands between the lines of a key: line ends, quotation marks of mail, code and comments.
_GLUE = r"(?:\\[nrt]|[\s\"'`>#*|,;\\]|[ \t][+.][ \t]*(?=[\r\n\"'])|//[ \t])*+"
_BASE64_LINES = rf"(?:{_GLUE}[A-Za-z0-9+/=]{{20,}})*+(?:(?!\s*\n[ \t>]*\r?\n){_GLUE}[A-Za-z0-9+/=]++(?=\s*+\Z|=|-----))?"
_HEADERS = rf"(?:{_GLUE}[A-Za-z][A-Za-z-]{{0,31}}:[^\r\n\\]{{1,128}})*+"
_NAME = r"(?:[A-Z0-9]{1,16}[ +]){0,4}PRIVATE[ +]KEY(?:[ +]BLOCK)?"
_PEM = re.compile(
    rf"-----BEGIN[ +]{_NAME}-----"
    rf"(?:(?:[^-]|-(?!----))*+-----END[ +]{_NAME}-----|{_HEADERS}{_BASE64_LINES})"
    rf"|----[ ]BEGIN[ ]{_NAME}[ ]----"
    rf"(?:(?:[^-]|-(?!---))*+----[ ]END[ ]{_NAME}[ ]----|{_HEADERS}{_BASE64_LINES})"
)
_PUTTY = re.compile(rf"(?<=Private-Lines: )[0-9]{{1,4}}{_BASE64_LINES}")
# Base64 of `-----BEGIN `, then of a name with `PRIVATE KEY` in the first 60 characters.
_ENCODED = re.compile(r"(?<![A-Za-z0-9+/])LS0tLS1CRUdJTi[A-Za-z0-9+/]{20,}={0,2}")
_ENCODED_NAMES = ("UFJJVkFURSBLRVk", "BSSVZBVEUgS0VZ", "QUklWQVRFIEtFW")


def find_private_keys(text: str) -> list[Span]:
    """Find private keys, also truncated ones."""
    spans = []
    if "BEGIN" in text:
        spans += [Span(*found.span(), "private_key") for found in _PEM.finditer(text)]
    if "Private-Lines: " in text:
        spans += [Span(*found.span(), "private_key") for found in _PUTTY.finditer(text)]
    if "LS0tLS1CRUdJTi" in text:
        spans += [
            Span(*found.span(), "private_key")
            for found in _ENCODED.finditer(text)
            if any(name in found[0][:60] for name in _ENCODED_NAMES)
        ]
    return spans
