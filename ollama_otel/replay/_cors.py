"""Lets web pages of this machine and desktop applications read responses, as Ollama does.

A browser sends a preflight request to find out whether a page of another origin may send a request,
and hides a response that does not allow the page's origin. The values are those of server 0.33.0
with its default `OLLAMA_ORIGINS`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ollama_otel._asgi import Header

__all__ = ["PREFLIGHT_METHOD", "cors_headers", "preflight_headers"]

PREFLIGHT_METHOD: Final = "OPTIONS"

_is_allowed: Final = re.compile(
    r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)(?::\d{1,5})?"
    # Printable ASCII only, as the origin is sent back.
    r"|(?:app|file|tauri|vscode-webview|vscode-file)://[!-~]*",
).fullmatch
_METHODS: Final = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_STAINLESS: Final = (
    *("Arch", "Async", "Custom-Poll-Interval", "Helper-Method", "Lang", "Os", "Package-Version"),
    *("Poll-Helper", "Retry-Count", "Runtime", "Runtime-Version", "Timeout"),
)
_HEADERS: Final = ",".join(
    (
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta",
        *(f"X-Stainless-{name}" for name in _STAINLESS),
    )
)
_MAX_AGE: Final = "43200"
"""Seconds for which a browser may keep the response to a preflight."""


def cors_headers(origin: str | None, host: str | None) -> Sequence[Header]:
    """Return the headers of a response that `origin` may read; none for other origins.

    A page of the same `host` needs none.
    """
    if not _may_read(origin, host):
        return ()
    return ((b"access-control-allow-origin", (origin or "").encode("ascii")), (b"vary", b"Origin"))


def preflight_headers(origin: str | None, host: str | None) -> Sequence[Header]:
    """Return the headers of the response to a preflight; none if `origin` may not read."""
    if not _may_read(origin, host):
        return ()
    return (
        *cors_headers(origin, host),
        (b"access-control-allow-methods", _METHODS.encode()),
        (b"access-control-allow-headers", _HEADERS.encode()),
        (b"access-control-max-age", _MAX_AGE.encode()),
        (b"vary", b"Access-Control-Request-Method"),
        (b"vary", b"Access-Control-Request-Headers"),
    )


def _may_read(origin: str | None, host: str | None) -> bool:
    if origin is None or origin in {f"http://{host}", f"https://{host}"}:
        return False
    return _is_allowed(origin) is not None
