"""What was asked and answered, kept and played back.

The names are imported when they are first used, so that a program that only reads or compares
logs does not import httpx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_otel._log.call import Chunk, RecordedCall
    from ollama_otel._log.observer import ReplayLog
    from ollama_otel._log.reader import Skipped, read
    from ollama_otel.replay._chaos import Chaos
    from ollama_otel.replay._diff.compare import compare
    from ollama_otel.replay._diff.values import Comparison
    from ollama_otel.replay._everywhere import replay
    from ollama_otel.replay._player import AsyncPlayer, Player
    from ollama_otel.replay._rerun import rerun
    from ollama_otel.replay._rerun_plan import RerunPlan, plan_rerun
    from ollama_otel.replay._server import ReplayApp

__all__ = [
    "AsyncPlayer",
    "Chaos",
    "Chunk",
    "Comparison",
    "Player",
    "RecordedCall",
    "ReplayApp",
    "ReplayLog",
    "RerunPlan",
    "Skipped",
    "compare",
    "plan_rerun",
    "read",
    "replay",
    "rerun",
]

_ROOMS = {
    "_log.call": ("Chunk", "RecordedCall"),
    "_log.observer": ("ReplayLog",),
    "_log.reader": ("Skipped", "read"),
    "replay._chaos": ("Chaos",),
    "replay._diff.compare": ("compare",),
    "replay._diff.values": ("Comparison",),
    "replay._everywhere": ("replay",),
    "replay._player": ("AsyncPlayer", "Player"),
    "replay._rerun": ("rerun",),
    "replay._rerun_plan": ("RerunPlan", "plan_rerun"),
    "replay._server": ("ReplayApp",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

# Hidden from type checkers, which would take any name for a good one.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _ROOM_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"ollama_otel.{_ROOM_OF[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
