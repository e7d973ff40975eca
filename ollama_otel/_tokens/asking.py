"""Sends the directory's requests to servers, from the worker's thread."""

from __future__ import annotations

from typing import Final

import httpx
from msgspec import json

from ollama_otel._tokens.directory import Answer, Question
from ollama_otel.residency._http import (
    BusyError,
    CannotPollError,
    Connection,
    UnreachableError,
)

__all__ = ["ask"]

_TIMEOUT: Final = 20.0
"""Seconds; the table of a large vocabulary has some ten megabytes."""
_MAX_ANSWER: Final = 128 * 1024 * 1024


def ask(url: str, question: Question) -> Answer:
    """Send a request; None if the server does not answer with JSON."""
    connection = Connection(url, _TIMEOUT)
    body = b"" if question.body is None else json.encode(question.body)
    try:
        response = connection.send(question.method, question.path, body, max_body=_MAX_ANSWER)
    except (BusyError, CannotPollError, UnreachableError):
        return None
    finally:
        connection.drop()
    return response.json() if response.status == httpx.codes.OK else None
