"""HTTP clients for Prometheus, Grafana and the stack, and descriptions of their failures."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from ipaddress import ip_address
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import httpx

from ollama_otel._display import masked_url
from ollama_otel._monitoring import MonitoringError

__all__ = ["open_client", "public_url", "reads_answers", "reason_of"]

_UNEXPECTED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    httpx.InvalidURL,
)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class _Server(Protocol):
    url: str


_AnyServer = TypeVar("_AnyServer", bound=_Server)


def reads_answers(
    method: Callable[Concatenate[_AnyServer, _Arguments], _Result],
) -> Callable[Concatenate[_AnyServer, _Arguments], _Result]:
    """Make a method raise `MonitoringError` for an answer of an unexpected form."""

    @wraps(method)
    def reading(
        self: _AnyServer, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Result:
        try:
            return method(self, *args, **kwargs)
        except _UNEXPECTED as error:
            raise MonitoringError(
                f"the server at {self.url} sent an answer that cannot be read "
                f"({method.__name__}: {type(error).__name__}); check the URL"
            ) from error

    return reading


def open_client(url: str, **options: object) -> httpx.Client:
    """Return a client for a server; it uses the environment's proxies for other machines only."""
    address = httpx.URL(url)
    return httpx.Client(
        # httpx would put paths behind a query.
        base_url=address.copy_with(query=None, fragment=None),
        trust_env=not _is_this_machine(address.host),
        follow_redirects=True,
        **options,  # type: ignore[arg-type]
    )


def public_url(url: str, *, example: str) -> str:
    """Return a URL without user, password and query, for messages.

    Raises `MonitoringError` if it is not an HTTP URL with a host.
    """
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in {"http", "https"} or not address.host:
        raise MonitoringError(f"expected a URL such as {example}, found {masked_url(url)!r}")
    return str(address.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")


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
