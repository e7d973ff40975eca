"""Finds an Ollama and models for the demo, or starts a scripted server instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import ollama

from ollama_otel._wire.address import Address
from ollama_otel.errors import SettingsError
from ollama_otel.testing import FakeModel, FakeOllama

__all__ = ["Models", "Server", "find_server", "scripted_server"]

_PATIENCE = httpx.Timeout(3.0, connect=2.0)
_MOST_ASKED = 40
"""Most models whose capabilities are requested; some servers have hundreds."""
_ROLES = ("completion", "thinking", "embedding")
_STUB_BYTES = 100_000
"""Cloud models have a size of a few hundred bytes; using them may cost money."""
_SCRIPTED_QUEUE = 0.08
_SCRIPTED_REPLY = (
    "The sky is blue because air scatters the short waves of sunlight far more than the long "
    "ones, so that blue light reaches your eyes from every direction."
)
_SCRIPTED_THOUGHT = (
    "They want to know why the sky is blue. That is Rayleigh scattering; one sentence will do."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The model for each kind of call; None if the server has none."""

    chats: str
    thinks: str | None
    embeds: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server of the demo's calls."""

    url: str
    models: Models
    stands_in_because: str | None = None
    """Why the scripted server is used; None for a real server."""
    client_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for a client."""


class _UnusableError(Exception):
    """The demo cannot use a server; the message says why, without a full stop."""


@contextmanager
def find_server(address: Address, *, model: str | None) -> Iterator[Server]:
    """Yield the Ollama at `address`, or a scripted server if it cannot be used.

    `model` is the chat model. Raises `SettingsError` if a real server does not have it.
    """
    url = address.connectable
    try:
        models = _survey(url, model)
    except _UnusableError as reason:
        with scripted_server(str(reason), model=model) as server:
            yield server
    else:
        yield Server(
            url=url, models=models, client_options={"timeout": httpx.Timeout(600.0, connect=5.0)}
        )


@contextmanager
def scripted_server(
    reason: str, *, model: str | None = None, realtime: bool = True
) -> Iterator[Server]:
    """Run the scripted server for a reason to show; `realtime` makes its calls take time."""
    models = Models(
        chats=model or "scripted-chat", thinks="scripted-thinker", embeds="scripted-embed"
    )
    fake = FakeOllama(_scripted_models(models), queue=_SCRIPTED_QUEUE, realtime=realtime)
    with fake.serve() as url:
        yield Server(
            url=url,
            models=models,
            stands_in_because=reason,
            # Proxies named in the environment cannot reach this server.
            client_options={"timeout": 60.0, "trust_env": False},
        )


def _scripted_models(models: Models) -> Iterator[FakeModel]:
    yield FakeModel(models.chats, reply=_SCRIPTED_REPLY, load=0.9, prompt=0.09)
    if models.thinks:
        yield FakeModel(
            models.thinks,
            capabilities=("completion", "thinking"),
            reply=_SCRIPTED_REPLY,
            thinking=_SCRIPTED_THOUGHT,
            load=0.5,
            token=0.012,
        )
    if models.embeds:
        yield FakeModel(models.embeds, capabilities=("embedding",), load=0.2, prompt=0.02)


def _survey(url: str, wanted: str | None) -> Models:
    try:
        with ollama.Client(url, timeout=_PATIENCE) as client:
            return _choose(client, url, wanted)
    except ollama.ResponseError as error:
        raise _UnusableError(
            f"The server at {url} refused a request (HTTP status {error.status_code})"
        ) from None
    except SettingsError:
        raise
    # Another program may return text, a list, or an object with other fields.
    except (httpx.DecodingError, httpx.TooManyRedirects, ValueError, TypeError):
        raise _UnusableError(f"The server at {url} is not Ollama") from None
    except (ConnectionError, httpx.HTTPError, httpx.InvalidURL):
        raise _UnusableError(f"No Ollama answered at {url}") from None


def _choose(client: ollama.Client, url: str, wanted: str | None) -> Models:
    """Choose by capabilities: loaded models first, so that none is unloaded, then small ones."""
    loaded = {model.model for model in client.ps().models}
    installed = [
        (model.model not in loaded, int(model.size or 0), model.model)
        for model in client.list().models
        if model.model and int(model.size or 0) >= _STUB_BYTES
    ]
    first: dict[str, str] = {}
    for _, _, name in sorted(installed)[:_MOST_ASKED]:
        for capability in _capabilities(client, name):
            first.setdefault(capability, name)
        if all(role in first for role in _ROLES):
            break
    if wanted is not None:
        first["completion"] = _checked(client, url, wanted)
    if "completion" not in first:
        raise _UnusableError(
            f"The Ollama at {url} has no chat model (ollama pull llama3.2 installs one)"
        )
    return Models(
        chats=first["completion"], thinks=first.get("thinking"), embeds=first.get("embedding")
    )


def _checked(client: ollama.Client, url: str, wanted: str) -> str:
    capabilities = _capabilities(client, wanted)
    if not capabilities:
        raise SettingsError(
            f"the Ollama at {url} has no model {wanted!r}: run 'ollama pull {wanted}', "
            "or omit --model"
        )
    if "completion" not in capabilities:
        raise SettingsError(f"the model {wanted!r} cannot chat, only {', '.join(capabilities)}")
    return wanted


def _capabilities(client: ollama.Client, name: str) -> list[str]:
    """Return the capabilities of a model; empty if it is missing or broken."""
    with suppress(ollama.ResponseError):
        # Servers before 0.6.4 do not report them.
        return list(client.show(name).capabilities or ["completion"])
    return []
