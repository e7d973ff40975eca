"""The models that replace the logged ones in a re-run, checked against the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

import httpx

from ollama_otel._display import visible_line
from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.failures import error_text, from_server
from ollama_otel._wire.installed_models import (
    DESCRIPTION_PATH,
    LIST_PATH,
    can_answer,
    description_request,
    read_capabilities,
    read_names,
)
from ollama_otel._wire.model_names import key_of, short_name
from ollama_otel.errors import ReplayError

__all__ = ["Substitution", "check_replaced", "without_unsuited"]

_LISTED: Final = 8
"""Number of models that an error lists."""
_SECONDS: Final = 10.0
"""Time limit for the description of a model."""


class Substitution:
    """Which model replaces a logged one: one for all, or new names by logged names."""

    def __init__(self, model: str | Mapping[str, str] | None) -> None:
        single = model if isinstance(model, Mapping) else {}
        self._default = None if isinstance(model, Mapping) else model
        self._single = {key_of(old): new for old, new in single.items()}

    def of(self, call: RecordedCall) -> str | None:
        """Return the new model of a call; None if it keeps its own."""
        return self._single.get(key_of(call.start.request.model or ""), self._default)


def check_replaced(names: Iterable[str], calls: Iterable[RecordedCall]) -> None:
    """Raise `ReplayError` if one of the models to replace is not in the log."""
    logged = {short_name(call.start.request.model or "") for call in calls} - {""}
    keys = set(map(key_of, logged))
    for name in names:
        if key_of(name) not in keys:
            raise ReplayError(
                f"expected a model of the log to replace, found {name!r}{_suggestion(name, logged)}"
            )


async def without_unsuited(
    client: httpx.AsyncClient, calls: Iterable[RecordedCall], substitution: Substitution, url: str
) -> tuple[RecordedCall, ...]:
    """Return the calls without those that their new model does not support.

    These are embeddings for a model without that capability, and completions for one that only
    creates embeddings. Raises `ReplayError` if the server does not have a new model.
    """
    pairs = [(call, substitution.of(call)) for call in calls]
    new = sorted({model for _, model in pairs if model is not None})
    known = {model: await _capabilities(client, model, url) for model in new}
    return tuple(
        call
        for call, model in pairs
        if model is None
        or can_answer(known[model], wants_vectors=call.start.endpoint.response == "embedding")
    )


async def _capabilities(client: httpx.AsyncClient, model: str, url: str) -> frozenset[str] | None:
    """Return the capabilities of a model of the server; None if the server does not report them."""
    response = await client.post(
        DESCRIPTION_PATH, json=description_request(model), timeout=_SECONDS
    )
    if response.is_success:
        return read_capabilities(_json(response))
    kind = from_server(response.status_code, error_text(response.content))
    if kind == "model_not_found":
        there = read_names(_json(await client.get(LIST_PATH, timeout=_SECONDS)))
        raise ReplayError(
            f"expected a model of the server at {url}, found {model!r}{_suggestion(model, there)}"
        )
    # A proxy may forward calls to models without supporting their description.
    return None


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _suggestion(name: str, others: Iterable[str]) -> str:
    """Return the end of an error message: similar names, or all names."""
    there = sorted(others)
    if near := get_close_matches(short_name(name), there, _LISTED):
        return visible_line(f"; did you mean {', '.join(near)}?")
    if not there:
        return "; it has no models"
    more = f" and {len(there) - _LISTED} more" if len(there) > _LISTED else ""
    return visible_line(f"; there is {', '.join(there[:_LISTED])}{more}")
