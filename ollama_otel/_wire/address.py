"""Parses `OLLAMA_HOST` by the rules of the official Python client, and places to listen at."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Address", "parse_host", "with_colon"]

_DEFAULT_HOST = "127.0.0.1"
_DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}

# Whitespace, quotes and other ASCII that no host name has. Ollama's Go code strips quotes, the
# Python client does not, and httpx then fails with an unrelated error.
_NOT_IN_HOST = re.compile(r"""[\s"'<>\\^`{|}\x00-\x20\x7f]""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a server."""

    scheme: str
    """`http` or `https`."""
    host: str
    """A name or an IP address; IPv6 without brackets."""
    port: int
    path: str
    """The path before `/api`: empty, or with a leading and no trailing slash."""

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return self._url(self.host)

    @property
    def connectable(self) -> str:
        """The base URL for a client: loopback instead of `0.0.0.0` or `::`."""
        ip = _ip(self.host)
        if ip is None or not ip.is_unspecified:
            return self.url
        return self._url("::1" if isinstance(ip, ipaddress.IPv6Address) else "127.0.0.1")

    def _url(self, host: str) -> str:
        ip = _ip(host)
        bracketed = f"[{host}]" if isinstance(ip, ipaddress.IPv6Address) else host
        return f"{self.scheme}://{bracketed}:{self.port}{self.path}"


def parse_host(value: str | None) -> Address:
    """Parse a value of `OLLAMA_HOST`; None and "" mean the default server.

    Without a scheme it is http and port 11434; with a scheme the port defaults to 80 or 443.
    User, password, query and fragment are dropped. Raises ValueError for values that the official
    client refuses (invalid ports, IPv6 without brackets), and for values that it accepts but
    cannot send a request to (other schemes, only a scheme, quotes and blanks in the host).
    """
    scheme, separator, rest = (value or "").partition("://")
    if not separator:
        scheme, rest = "http", value or ""
    elif scheme.lower() not in _SCHEME_PORTS or not rest:
        raise ValueError(_error_text(value))
    # Lower case only, as in the official client: `HTTP://h` is port 11434 there.
    default_port = _SCHEME_PORTS.get(scheme, _DEFAULT_PORT) if separator else _DEFAULT_PORT
    try:
        split = urlsplit(f"{scheme}://{rest}")
        host, port = split.hostname or _DEFAULT_HOST, split.port or default_port
    except ValueError:
        # Without urllib's message, which may quote the password.
        raise ValueError(_error_text(value)) from None
    if _NOT_IN_HOST.search(host):
        raise ValueError(_error_text(value))
    path = split.path.strip("/")
    return Address(scheme=scheme.lower(), host=host, port=port, path=f"/{path}" if path else "")


def with_colon(place: str) -> str:
    """Return a place to listen at, in which a port alone is `:PORT`.

    Only for listening: in the address of a server, `11434` is the name of a host.
    """
    return f":{place}" if place.isascii() and place.isdecimal() else place


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _error_text(value: str | None) -> str:
    # A query is dropped by the parser, and may hold a key.
    place = re.sub(r"\?.*", "?***", value or "", flags=re.DOTALL)
    before, at, shown = place.rpartition("@")
    if at:
        scheme, separator, _ = before.partition("://")
        shown = f"{scheme}://***@{shown}" if separator else f"***@{shown}"
    return (
        "expected the address of an Ollama server as [http[s]://]host[:port][/path] with IPv6 "
        f"in brackets, found {shown!r}; an example is 'http://127.0.0.1:11434'"
    )
