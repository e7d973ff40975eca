"""One name for each server: sources write loopback addresses differently."""

from __future__ import annotations

from typing import Final

__all__ = ["server_name"]

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost", "0.0.0.0", "::"})  # noqa: S104 - names, nothing is bound


def server_name(host: str | None, port: int | str | None) -> str | None:
    """Return `host:port`, with `localhost` for each loopback address; None if one is unknown."""
    if not host or not port:
        return None
    host = "localhost" if host.lower() in _LOOPBACK else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
