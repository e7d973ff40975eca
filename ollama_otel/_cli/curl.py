"""A logged call as a curl command that repeats it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ollama_otel._display import shell_command, url_path
from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.address import Address
from ollama_otel._wire.media import MARK

__all__ = ["CurlCommand", "curl_for"]

_REDACTED = "[redacted"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurlCommand:
    """A command, and how it differs from the logged request."""

    command: str | None
    """Quoted for a POSIX shell; None if the request's body is unknown."""
    caveat: str | None
    """Why there is no command, or how it differs from the logged request."""


def curl_for(call: RecordedCall, host: Address | None = None) -> CurlCommand:
    """Return the command that repeats a call, at the server `host` if it is given."""
    request = call.start.request
    if call.request_body is None and request.size:
        return CurlCommand(command=None, caveat=_no_body(call))
    words = ["curl", *_method(call), _url(call, host)]
    caveat = None
    if call.request_body is not None:
        body = json.dumps(call.request_body, ensure_ascii=False, separators=(",", ":"))
        if not body.isprintable():
            body = json.dumps(call.request_body, separators=(",", ":"))
        words += ["-H", "Content-Type: application/json", "--data-raw", body]
        caveat = _caveat(body, has_all_images="images" not in call.request_changes)
    return CurlCommand(command=shell_command(words), caveat=caveat)


def _no_body(call: RecordedCall) -> str:
    if call.missing is not None:
        return f"There is no command, as the request's body is not in the log ({call.missing})."
    return (
        "There is no command, as the request's body is not in the log: replay_bodies is off, "
        "configure(replay_bodies=True) turns it on."
    )


def _caveat(body: str, *, has_all_images: bool) -> str | None:
    if MARK.decode() in body or not has_all_images:
        return "Not exact: images are not in the log; put them back."
    if _REDACTED in body:
        return "Not exact: parts of the request were redacted before it was logged."
    return None


def _method(call: RecordedCall) -> list[str]:
    method = call.start.endpoint.method
    if method == "HEAD":
        return ["--head"]
    if method == "GET" or (method == "POST" and call.request_body is not None):
        # For a stream, curl must print each line immediately.
        return ["--no-buffer"] if call.start.request.stream else []
    return ["-X", method]


def _url(call: RecordedCall, host: Address | None) -> str:
    start, path = call.start, url_path(call.path)
    if host is not None:
        # A prefix before `/api` belongs to the logged server.
        at = path.rfind(url_path(start.endpoint.path.removesuffix("*")))
        return f"{host.connectable}{path[max(at, 0) :]}"
    name = url_path(start.server_address or "localhost")
    name = f"[{name}]" if ":" in name else name
    port = start.server_port
    if port == 443:  # noqa: PLR2004 - that of https
        return f"https://{name}{path}"
    return f"http://{name}:{port}{path}" if port else f"http://{name}{path}"
