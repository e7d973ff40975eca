"""Readers of the arguments of commands; argparse tells what they raise."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError

from ollama_otel._wire.address import Address, parse_host

__all__ = [
    "address",
    "count",
    "count_from_zero",
    "factor",
    "number",
    "place_to_listen",
    "share_of_status",
]


def address(text: str) -> Address:
    """Read where a server is."""
    try:
        return parse_host(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def place_to_listen(text: str) -> Address:
    """Read where to listen; port 0 is any free one."""
    try:
        place = parse_host(text)
        # 0 is no port for a client, and any free one for a server.
        port = 0 if text.endswith(":0") else place.port
    except ValueError:
        raise ArgumentTypeError(
            f"expected HOST:PORT such as 127.0.0.1:11500, found {text!r}"
        ) from None
    return Address(scheme="http", host=place.host, port=port, path="")


def count(text: str) -> int:
    """Read how many, at least one."""
    return _whole_number(text, least=1)


def count_from_zero(text: str) -> int:
    """Read how many, or none."""
    return _whole_number(text, least=0)


def number(text: str) -> float:
    """Read a number that is neither infinite nor none."""
    value = _float(text)
    if not math.isfinite(value):
        raise ArgumentTypeError(f"expected a number, found {text!r}")
    return value


def factor(text: str) -> float:
    """Read a number above 0."""
    value = _float(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


def share_of_status(text: str) -> tuple[int, float]:
    """Read an HTTP status and the share of requests that it is for."""
    status, _, share = text.partition("=")
    try:
        return int(status), number(share)
    except (ValueError, ArgumentTypeError):
        raise ArgumentTypeError(f"expected STATUS=SHARE such as 503=0.1, found {text!r}") from None


def _whole_number(text: str, *, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ArgumentTypeError(f"expected a whole number of at least {least}, found {text!r}")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
