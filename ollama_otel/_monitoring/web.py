"""One HTTP client for everything that is asked here, and what its failures mean."""

from __future__ import annotations

from ipaddress import ip_address

import httpx

from ollama_otel._monitoring.errors import DashboardsError

__all__ = ["open_client", "reason_of", "shown"]


def open_client(url: str, **options: object) -> httpx.Client:
    """Return a client for a server; a proxy of the environment knows nothing of this machine."""
    return httpx.Client(
        base_url=url,
        trust_env=not _is_this_machine(httpx.URL(url).host),
        follow_redirects=True,
        **options,  # type: ignore[arg-type]
    )


def shown(url: str, *, example: str) -> str:
    """Return where a server is as it may be named in messages: without who asks.

    Raises `DashboardsError` where it is no address of one.
    """
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in {"http", "https"} or not address.host:
        raise DashboardsError(f"expected an address such as {example}, found {url!r}")
    return str(address.copy_with(userinfo=b"")).rstrip("/")


def reason_of(error: httpx.HTTPError) -> str:
    """Return why there was no answer, in a few words."""
    if isinstance(error, httpx.ConnectError):
        return "nothing answers there"
    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    return str(error) or type(error).__name__


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
