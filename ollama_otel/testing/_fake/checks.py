"""The checks of the fake server: types, capabilities, bounds of options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ollama_otel._wire.installed_models import Capability
from ollama_otel.testing._fake.go import RefusalError, go_json, keep_alive_seconds
from ollama_otel.testing._fake.models import FakeModel, qualified_name

_MAX_TOP_LOGPROBS = 20
_THINK_LEVELS = (True, False, "low", "medium", "high", "max")
_OPTION_KINDS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "num_ctx",
            "num_batch",
            "num_gpu",
            "main_gpu",
            "num_thread",
            "draft_num_predict",
            "num_keep",
            "seed",
            "num_predict",
            "top_k",
            "repeat_last_n",
        ),
        "integer",
    ),
    **dict.fromkeys(
        (
            "top_p",
            "min_p",
            "typical_p",
            "temperature",
            "repeat_penalty",
            "presence_penalty",
            "frequency_penalty",
        ),
        "float32",
    ),
    "use_mmap": "boolean",
    "stop": "array",
}
_KIND_TYPES: Mapping[str, tuple[type, ...]] = {
    "integer": (int, float),
    "float32": (int, float),
    "boolean": (bool,),
    "array": (list,),
}


def quoted(name: str) -> str:
    """Quote a text as Go's %q does."""
    return json.dumps(name, ensure_ascii=False)


def keep_alive(request: Mapping[str, Any]) -> float | None:
    """Return the seconds to stay loaded; None: the server's default."""
    return keep_alive_seconds(request["keep_alive"]) if "keep_alive" in request else None


def check_top_logprobs(request: Mapping[str, Any]) -> None:
    if not 0 <= request.get("top_logprobs", 0) <= _MAX_TOP_LOGPROBS:
        raise RefusalError(400, "top_logprobs must be between 0 and 20")


def check_think(request: Mapping[str, Any]) -> None:
    """Check that `think` is a bool or a level, if given."""
    think = request.get("think", True)
    if not isinstance(think, bool | str) or think not in _THINK_LEVELS:
        allowed = 'must be "high", "medium", "low", "max", true, or false'
        raise RefusalError(400, f"invalid think value: {go_json(think).decode()} ({allowed})")


def check_options(options: Mapping[str, Any]) -> None:
    """Check the types; the server ignores unknown options."""
    for name, value in options.items():
        kind = _OPTION_KINDS.get(name)
        if kind is None or value is None:
            continue
        is_bool = isinstance(value, bool)
        if not isinstance(value, _KIND_TYPES[kind]) or is_bool is not (kind == "boolean"):
            raise RefusalError(500, f'option "{name}" must be of type {kind}')
    if not all(isinstance(stop, str) for stop in options.get("stop") or []):
        raise RefusalError(500, 'option "stop" must be of an array of strings')


def check_messages(request: Mapping[str, Any]) -> None:
    """Check that every message and every tool is an object."""
    for field, kind in (("messages", "api.Message"), ("tools", "api.Tool")):
        if not all(isinstance(item, dict) for item in request.get(field, [])):
            where = f"Go struct field ChatRequest.{field} of type {kind}"
            raise RefusalError(400, f"json: cannot unmarshal value into {where}")


def check_capabilities(verb: str, request: Mapping[str, Any], model: FakeModel) -> None:
    """Check the model's capabilities; `verb` is chat or generate, for the error message."""
    name, full = quoted(request["model"]), qualified_name(model.name)
    needs: list[tuple[bool, Capability, str]] = [
        (bool(request.get("think")), "thinking", f"{name} does not support thinking"),
        (True, "completion", f"{name} does not support {verb}"),
        (bool(request.get("tools")), "tools", f"{full} does not support tools"),
        (bool(request.get("suffix")), "insert", f"{full} does not support insert"),
    ]
    for is_needed, capability, refusal in needs:
        if is_needed and capability not in model.capabilities:
            raise RefusalError(400, refusal)


def check_embeds(model: FakeModel) -> None:
    """Check that the model makes embeddings; the error is the engine's own."""
    if "embedding" not in model.capabilities:
        text = "This server does not support embeddings. Start it with `--embeddings`"
        raise RefusalError(501, text)


def embed_inputs(request: Mapping[str, Any]) -> list[str]:
    """Return the texts to embed; empty if the request only loads the model."""
    given = request.get("input", "")
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise RefusalError(400, "invalid input type")
    return [] if inputs == [""] else inputs
