"""The example `fastapi_stream`, with a model that writes on and on."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import fastapi_stream

fastapi_stream.client.chat = partial(  # type: ignore[method-assign]
    fastapi_stream.client.chat,
    options={"num_predict": 1_000_000, "temperature": 1.0},
    format={"type": "array", "minItems": 1_000_000},
)
app = fastapi_stream.app
