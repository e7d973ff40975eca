"""Where a server is: `OLLAMA_HOST` read by the rules of the official Python client."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Address", "parse_host"]

_DEFAULT_HOST = "127.0.0.1"
_DEFAULT_PORT = 11434
_SCHEME_PORTS = {"http": 80, "https": 443}

# Whitespace, quotes and other ASCII that no host name has; Go's side strips quotes, Python's does
# not, and httpx then fails far away from the cause.
_NOT_IN_HOST = re.compile(r"""[\s"'<>\\^`{|}\x00-\x20\x7f]""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where requests go."""

    scheme: str
    """`http` or `https`."""
    host: str
    """A name or an IP address; IPv6 without brackets."""
    port: int
    path: str
    """What stands before `/api`: empty, or with a slash in front and none at the end."""

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return self._url(self.host)

    @property
    def connectable(self) -> str:
        """The base URL for a client: loopback instead of `0.0.0.0` or `::`, which only bind."""
        ip = _ip(self.host)
        if ip is None or not ip.is_unspecified:
            return self.url
        return self._url("::1" if isinstance(ip, ipaddress.IPv6Address) else "127.0.0.1")

    def _url(self, host: str) -> str:
        ip = _ip(host)
        bracketed = f"[{host}]" if isinstance(ip, ipaddress.IPv6Address) else host
        return f"{self.scheme}://{bracketed}:{self.port}{self.path}"


def parse_host(value: str | None) -> Address:
    """Read a value of `OLLAMA_HOST`; None and "" are the default server.

    No scheme means http and port 11434; with a scheme the port is 80 or 443. User, password,
    query and fragment are dropped. Raises ValueError for what the official client refuses
    (ports that are none, IPv6 without brackets), and for what it takes but no request can be
    sent to (other schemes, a scheme alone, quotes and blanks in the host).
    """
    scheme, separator, rest = (value or "").partition("://")
    if not separator:
        scheme, rest = "http", value or ""
    elif scheme.lower() not in _SCHEME_PORTS or not rest:
        raise ValueError(_complaint(value))
    # Lower case only, as in the official client: `HTTP://h` is port 11434 there.
    default_port = _SCHEME_PORTS.get(scheme, _DEFAULT_PORT) if separator else _DEFAULT_PORT
    try:
        split = urlsplit(f"{scheme}://{rest}")
        host, port = split.hostname or _DEFAULT_HOST, split.port or default_port
    except ValueError:
        # urllib's own message would be a second sentence, and quotes the password.
        raise ValueError(_complaint(value)) from None
    if _NOT_IN_HOST.search(host):
        raise ValueError(_complaint(value))
    path = split.path.strip("/")
    return Address(scheme=scheme.lower(), host=host, port=port, path=f"/{path}" if path else "")


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _complaint(value: str | None) -> str:
    before, at, shown = (value or "").rpartition("@")
    if at:
        scheme, separator, _ = before.partition("://")
        shown = f"{scheme}://***@{shown}" if separator else f"***@{shown}"
    return (
        "expected the address of an Ollama server as [http[s]://]host[:port][/path] with IPv6 "
        f"in brackets, found {shown!r}; an example is 'http://127.0.0.1:11434'"
    )
