"""The models of the fake server: installed and loaded ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from ollama_otel._wire.installed_models import Capability
from ollama_otel._wire.model_names import full_name
from ollama_otel.testing._fake.go import FOREVER, go_time

_KEEP_ALIVE = 300.0
_LOAD_OPTIONS = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
)
_LOCAL_ZONE_HOURS = 2
"""Not UTC, so that times have an offset, as on most machines."""


@dataclass(frozen=True, slots=True)
class FakeModel:
    """One model: its name, capabilities, text and speed."""

    name: str
    """With or without a tag; without one it has `latest`."""
    _: KW_ONLY
    capabilities: tuple[Capability, ...] = ("completion", "tools")
    reply: str = "Hello! I am a fake model. How can I help you today?"
    """Its answer to every prompt."""
    thinking: str = "A greeting. A short and friendly answer will do."
    """Its thinking, if it has the capability and `think` is not false."""
    load: float = 0.6
    """Seconds of a cold load; a warm one takes about 1 ms."""
    prompt: float = 0.06
    """Seconds to read the prompt."""
    token: float = 0.015
    """Seconds for each generated token."""
    context_length: int = 4096
    """Tokens, if the request has no `num_ctx`."""
    embedding_length: int = 16
    """Dimensions of its embeddings."""
    family: str = "llama"
    size: int = 2_019_393_189
    """Bytes, on disk and in memory, all of it on the GPU."""


DEFAULT_MODELS = (
    FakeModel("llama3.2"),
    FakeModel("qwen3", capabilities=("completion", "tools", "thinking"), family="qwen3"),
    FakeModel(
        "nomic-embed-text", capabilities=("embedding",), family="nomic-bert", size=274_302_450
    ),
)
DEFAULT_REGISTRY = (
    FakeModel("all-minilm", capabilities=("embedding",), family="bert", size=45_960_996),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    options: Mapping[str, object]
    """Its load options; different ones cause a reload."""
    keep_alive: float
    """Seconds, of the last request that had one."""
    expires_at: float
    """Seconds since the epoch."""


def qualified_name(name: str) -> str:
    """Return the name with registry and namespace, as some error messages have it."""
    full = full_name(name)
    return f"registry.ollama.ai/{full if '/' in full else f'library/{full}'}"


def digest(text: str) -> str:
    """Return a made-up digest of a manifest, without `sha256:`."""
    return hashlib.sha256(text.encode()).hexdigest()


class Library:
    """Installed and loaded models. Not thread-safe: the server calls it under its lock."""

    def __init__(self, models: Iterable[FakeModel], registry: Iterable[FakeModel]) -> None:
        self._installed = {full_name(model.name): model for model in models}
        self._registry = {full_name(model.name): model for model in registry}
        self._loaded: dict[str, _Loaded] = {}

    def find(self, name: str) -> FakeModel | None:
        """Return the installed model of that name; a missing tag means `latest`."""
        return self._installed.get(full_name(name))

    def add(self, name: str, source: FakeModel) -> None:
        """Install `source` under another name."""
        self._installed[full_name(name)] = replace(source, name=name)

    def remove(self, name: str) -> None:
        del self._installed[full_name(name)]
        self.unload(name)

    def pull(self, name: str) -> FakeModel | None:
        """Install a model from the registry; None if it is neither there nor installed."""
        model = self._registry.get(full_name(name)) or self.find(name)
        if model is not None:
            self._installed[full_name(name)] = model
        return model

    def load(
        self, model: FakeModel, options: Mapping[str, Any], keep_alive: float | None, now: float
    ) -> bool:
        """Load a model; False if it was loaded already."""
        name = full_name(model.name)
        before = self._loaded.get(name)
        wanted = {key: options[key] for key in _LOAD_OPTIONS if key in options}
        wanted.setdefault("num_ctx", model.context_length)
        is_warm = before is not None and before.expires_at > now and before.options == wanted
        if keep_alive is None:
            keep_alive = before.keep_alive if is_warm and before else _KEEP_ALIVE
        self._loaded[name] = _Loaded(
            options=wanted, keep_alive=keep_alive, expires_at=now + keep_alive
        )
        return not is_warm

    def unload(self, name: str) -> None:
        self._loaded.pop(full_name(name), None)

    def tags(self, now: float) -> list[dict[str, Any]]:
        return [self._tag(name, model, now) for name, model in self._installed.items()]

    def ps(self, now: float) -> list[dict[str, Any]]:
        """Return the rows of `/api/ps`: loaded models, the latest expiry first."""
        alive = {name: it for name, it in self._loaded.items() if it.expires_at > now}
        by_expiry = sorted(alive.items(), key=lambda item: item[1].expires_at, reverse=True)
        return [
            self._row(name, self._installed[name])
            | {
                "expires_at": go_time(
                    min(it.expires_at, now + FOREVER), zone_hours=_LOCAL_ZONE_HOURS
                ),
                "size_vram": self._installed[name].size,
                "context_length": it.options["num_ctx"],
            }
            for name, it in by_expiry
        ]

    def show(self, model: FakeModel, now: float) -> dict[str, Any]:
        return {
            "license": "A licence",
            "modelfile": f"FROM {full_name(model.name)}",
            "template": "{{ .Prompt }}",
            "details": details(model),
            "model_info": {
                "general.architecture": model.family,
                f"{model.family}.context_length": model.context_length,
                f"{model.family}.embedding_length": model.embedding_length,
            },
            "capabilities": model.capabilities,
            "modified_at": go_time(now, zone_hours=_LOCAL_ZONE_HOURS),
        }

    def _tag(self, name: str, model: FakeModel, now: float) -> dict[str, Any]:
        lengths = {
            "context_length": model.context_length,
            "embedding_length": model.embedding_length,
        }
        return self._row(name, model) | {
            "modified_at": go_time(now, zone_hours=_LOCAL_ZONE_HOURS),
            "details": details(model) | lengths,
            "capabilities": model.capabilities,
        }

    def _row(self, name: str, model: FakeModel) -> dict[str, Any]:
        return {
            "name": name,
            "model": name,
            "size": model.size,
            "digest": digest(name),
            "details": details(model),
        }


def details(model: FakeModel) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": "3.2B",
        "quantization_level": "Q4_K_M",
    }
