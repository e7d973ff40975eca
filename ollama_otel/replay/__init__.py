"""The replay log: writing, reading, replaying, re-running and comparing logs.

Names are imported at first use, so that a program that only reads or compares logs does not
import httpx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_otel._log.call import Chunk, RecordedCall
    from ollama_otel._log.observer import ReplayLog
    from ollama_otel._log.reader import Report, Skipped, read
    from ollama_otel._log.writer import LogStatistics
    from ollama_otel.replay._canonical import CanonicalRequest
    from ollama_otel.replay._chaos import Chaos
    from ollama_otel.replay._diff.compare import compare
    from ollama_otel.replay._diff.json import FieldDifference, FieldKind
    from ollama_otel.replay._diff.text import Segment, SegmentKind, TextDifference
    from ollama_otel.replay._diff.values import (
        Aspect,
        BeforeAfter,
        ComparedPair,
        Comparison,
        Measure,
        MeasureSummary,
        Note,
        Side,
        StructureDifference,
    )
    from ollama_otel.replay._everywhere import Replaying, replay
    from ollama_otel.replay._matching import CallIndex, Log
    from ollama_otel.replay._player import AsyncPlayer, Player
    from ollama_otel.replay._rerun import RerunProgress, rerun
    from ollama_otel.replay._rerun_plan import LeftOut, RerunPlan, plan_rerun
    from ollama_otel.replay._server import ReplayApp, Served, ServedOutcome

__all__ = [
    "Aspect",
    "AsyncPlayer",
    "BeforeAfter",
    "CallIndex",
    "CanonicalRequest",
    "Chaos",
    "Chunk",
    "ComparedPair",
    "Comparison",
    "FieldDifference",
    "FieldKind",
    "LeftOut",
    "Log",
    "LogStatistics",
    "Measure",
    "MeasureSummary",
    "Note",
    "Player",
    "RecordedCall",
    "ReplayApp",
    "ReplayLog",
    "Replaying",
    "Report",
    "RerunPlan",
    "RerunProgress",
    "Segment",
    "SegmentKind",
    "Served",
    "ServedOutcome",
    "Side",
    "Skipped",
    "StructureDifference",
    "TextDifference",
    "compare",
    "plan_rerun",
    "read",
    "replay",
    "rerun",
]

_ROOMS = {
    "_log.call": ("Chunk", "RecordedCall"),
    "_log.observer": ("ReplayLog",),
    "_log.reader": ("Report", "Skipped", "read"),
    "_log.writer": ("LogStatistics",),
    "replay._canonical": ("CanonicalRequest",),
    "replay._chaos": ("Chaos",),
    "replay._diff.compare": ("compare",),
    "replay._diff.json": ("FieldDifference", "FieldKind"),
    "replay._diff.text": ("Segment", "SegmentKind", "TextDifference"),
    "replay._diff.values": (
        *("Aspect", "BeforeAfter", "ComparedPair", "Comparison", "Measure"),
        *("MeasureSummary", "Note", "Side", "StructureDifference"),
    ),
    "replay._everywhere": ("Replaying", "replay"),
    "replay._matching": ("CallIndex", "Log"),
    "replay._player": ("AsyncPlayer", "Player"),
    "replay._rerun": ("RerunProgress", "rerun"),
    "replay._rerun_plan": ("LeftOut", "RerunPlan", "plan_rerun"),
    "replay._server": ("ReplayApp", "Served", "ServedOutcome"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

# Hidden from type checkers: with it they would accept any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _ROOM_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"ollama_otel.{_ROOM_OF[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
