"""HTTP clients for Prometheus, Grafana and the stack, and their failures in words."""

from __future__ import annotations

from ipaddress import ip_address

import httpx

from ollama_otel._monitoring import MonitoringError

__all__ = ["open_client", "public_url", "reason_of"]


def open_client(url: str, **options: object) -> httpx.Client:
    """Return a client for a server; it uses the environment's proxies for other machines only."""
    return httpx.Client(
        base_url=url,
        trust_env=not _is_this_machine(httpx.URL(url).host),
        follow_redirects=True,
        **options,  # type: ignore[arg-type]
    )


def public_url(url: str, *, example: str) -> str:
    """Return a URL without user and password, for messages.

    Raises `MonitoringError` if it is not an HTTP URL with a host.
    """
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in {"http", "https"} or not address.host:
        raise MonitoringError(f"expected a URL such as {example}, found {url!r}")
    return str(address.copy_with(userinfo=b"")).rstrip("/")


def reason_of(error: httpx.HTTPError) -> str:
    """Return in a few words why there was no response."""
    if isinstance(error, httpx.ConnectError):
        return "cannot connect"
    if isinstance(error, httpx.TimeoutException):
        return "timed out"
    return str(error) or type(error).__name__


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
