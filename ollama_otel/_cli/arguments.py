"""Arguments that commands share, and parsers of values; argparse reports their errors."""

from __future__ import annotations

import math
import os
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from ollama_otel._wire.address import Address, parse_host, with_colon
from ollama_otel.errors import SettingsError

__all__ = [
    "add_data_source",
    "add_host",
    "add_no_color",
    "address",
    "count",
    "count_from_zero",
    "factor",
    "new_file",
    "number",
    "place_to_listen",
    "server_address",
    "share_of_status",
]


def add_no_color(parser: ArgumentParser) -> None:
    parser.add_argument("--no-color", action="store_true", help="print plain text")


def add_host(parser: ArgumentParser) -> None:
    """Add `--host`; pass its value to `server_address`."""
    parser.add_argument(
        "--host", type=address, metavar="URL", help="where Ollama is (default: OLLAMA_HOST)"
    )


def add_data_source(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--datasource",
        metavar="UID",
        help="the Prometheus data source to query, instead of the one chosen on a board",
    )


def server_address(host: Address | None) -> Address:
    """Return `host`, or else the server of `OLLAMA_HOST`.

    Raises `SettingsError` for a malformed `OLLAMA_HOST`, even if `host` is given: the official
    package reads the variable at import and fails.
    """
    try:
        default = parse_host(os.environ.get("OLLAMA_HOST"))
    except ValueError as error:
        raise SettingsError(f"OLLAMA_HOST: {error}") from None
    return host or default


def address(text: str) -> Address:
    """Parse the address of a server."""
    try:
        return parse_host(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def place_to_listen(text: str) -> Address:
    """Parse an address to listen at, or a port of this machine; port 0 is any free one."""
    full = with_colon(text)
    try:
        place = parse_host(full)
        # `parse_host` reads addresses of clients, for which port 0 is the default port.
        port = 0 if full.endswith(":0") else place.port
    except ValueError:
        raise ArgumentTypeError(
            f"expected HOST:PORT such as 127.0.0.1:11500, or a port, found {text!r}"
        ) from None
    return Address(scheme="http", host=place.host, port=port, path="")


def new_file(text: str) -> Path:
    """Parse the path of a file to write: its folder must exist and be writable."""
    path = Path(text)
    folder = path.parent
    if not folder.is_dir():
        raise ArgumentTypeError(f"expected a file in an existing folder, found {text!r}")
    if not os.access(folder, os.W_OK):
        raise ArgumentTypeError(f"expected a folder that can be written, found {str(folder)!r}")
    return path


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    return _whole_number(text, least=1)


def count_from_zero(text: str) -> int:
    """Parse a whole number of at least 0."""
    return _whole_number(text, least=0)


def number(text: str) -> float:
    """Parse a finite number."""
    value = _float(text)
    if not math.isfinite(value):
        raise ArgumentTypeError(f"expected a number, found {text!r}")
    return value


def factor(text: str) -> float:
    """Parse a finite number above 0."""
    value = _float(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


def share_of_status(text: str) -> tuple[int, float]:
    """Parse an HTTP status and the share of requests that get it."""
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
