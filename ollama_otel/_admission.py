"""Decides by `Host` and `Origin` which HTTP requests a server of this library answers.

A web page can make a browser send requests to a server on the browser's machine or network: to a
name that its author lets resolve to 127.0.0.1 (DNS rebinding), or across origins.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from ollama_otel.errors import SettingsError

__all__ = ["ANY_HOST", "Admission", "is_host_name"]

ANY_HOST: Final = "*"
"""Wildcard for every name in a list of allowed hosts."""

_LOCAL_DOMAINS: Final = (".localhost", ".local", ".internal")
"""Reserved top-level domains, which cannot be registered; Ollama allows them too."""
_WEB: Final = frozenset(("http", "https"))
_is_name = re.compile(r"[\w.-]+").fullmatch


def is_host_name(text: str) -> bool:
    """Whether a text can be in a list of allowed hosts: a name without a port, or `*`."""
    return text == ANY_HOST or _is_name(text) is not None


class Admission:
    """The allowed hosts and origins.

    Always allowed as `Host` are IP addresses, names without a dot such as `localhost` or those of
    containers, names under `.localhost`, `.local` and `.internal`, the name of this machine, and
    `hosts`. Other names are refused on connections to a loopback address. On connections to other
    addresses they are refused if `hosts` is given: only the operator knows the names under which
    a network reaches the server. `*` in `hosts` allows every name.

    Allowed as `Origin` are pages of this machine, of the same host and of `hosts`, and
    applications that are not web pages.

    Raises `SettingsError` if one of `hosts` is not a host name.
    """

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        names = list(hosts)
        for name in names:
            if not is_host_name(name):
                raise SettingsError(f"expected a host name without a port, or *, found {name!r}")
        self._hosts = frozenset(map(_normal, names))

    def admits(self, host: str | None, origin: str | None, local_address: str | None) -> bool:
        """Whether a request is answered; None: the header was not sent.

        `local_address` is the server's end of the connection, None if it is unknown.
        """
        if ANY_HOST in self._hosts:
            return True
        name = _host_name(host or "")
        return self._admits_host(name, local_address) and (
            origin is None or self._admits_origin(origin, name)
        )

    def _admits_host(self, name: str | None, local_address: str | None) -> bool:
        if name is None:
            return False
        is_beyond = not self._hosts and not _is_loopback(local_address or "127.0.0.1")
        return is_beyond or name in self._hosts or _is_local(name)

    def _admits_origin(self, origin: str, host: str | None) -> bool:
        try:
            parts = urlsplit(origin)
            _ = parts.port
            name = _normal(parts.hostname or "")
        except ValueError:
            return False
        if parts.scheme not in _WEB:
            # Such as `app://` or `file://`; a sandboxed page sends `null`, which has no scheme.
            return bool(parts.scheme)
        return _is_this_machine(name) or name == host or name in self._hosts


def _host_name(header: str) -> str | None:
    """Return the name in a `Host` header without its port; None if there is no valid one."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
    except ValueError:
        return None
    is_plain = parts.netloc == header and parts.username is None
    return _normal(parts.hostname or "") if is_plain else None


def _normal(name: str) -> str:
    return name.strip().lower().removesuffix(".")


def _is_local(name: str) -> bool:
    return (
        "." not in name
        or _address(name) is not None
        or name.endswith(_LOCAL_DOMAINS)
        or name == _machine()
    )


@cache
def _machine() -> str:
    return _normal(socket.gethostname())


def _is_this_machine(name: str) -> bool:
    """Whether a page under this name was served by the browser's own machine."""
    is_local_name = name in {"localhost", "0.0.0.0"} or name.endswith(".localhost")  # noqa: S104
    return is_local_name or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    found = _address(address)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found is not None and found.is_loopback


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
