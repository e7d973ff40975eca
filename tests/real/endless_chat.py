"""The example `live_chat`, with a model that writes on and on."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "live_chat"))

import app as live_chat

from ollama_otel.tools import Agent


async def _endless() -> Agent:
    return Agent(
        live_chat.client,
        live_chat.MODEL,
        name="live-chat",
        options={"num_predict": 1_000_000, "num_ctx": 2048, "temperature": 1.0},
        format={"type": "array", "minItems": 1_000_000},
    )


live_chat.agent = _endless
app = live_chat.app
