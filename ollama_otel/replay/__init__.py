"""What was asked and answered, kept and played back."""

from __future__ import annotations

from ollama_otel._replay_log.call import Chunk, RecordedCall
from ollama_otel._replay_log.observer import ReplayLog
from ollama_otel._replay_log.writer import LogStatistics
from ollama_otel.replay._chaos import Chaos
from ollama_otel.replay._compare import (
    BeforeAfter,
    ComparedPair,
    Comparison,
    Measure,
    MeasureSummary,
    Note,
    StructureDifference,
    compare,
)
from ollama_otel.replay._difference import FieldDifference, Segment, TextDifference
from ollama_otel.replay._everywhere import replay
from ollama_otel.replay._matching import CallIndex
from ollama_otel.replay._player import AsyncPlayer, Player
from ollama_otel.replay._reader import Skipped, read
from ollama_otel.replay._rerun import RerunProgress, rerun
from ollama_otel.replay._rerun_plan import LeftOut, RerunPlan, plan_rerun
from ollama_otel.replay._server import ReplayApp, Served

__all__ = [
    "AsyncPlayer",
    "BeforeAfter",
    "CallIndex",
    "Chaos",
    "Chunk",
    "ComparedPair",
    "Comparison",
    "FieldDifference",
    "LeftOut",
    "LogStatistics",
    "Measure",
    "MeasureSummary",
    "Note",
    "Player",
    "RecordedCall",
    "ReplayApp",
    "ReplayLog",
    "RerunPlan",
    "RerunProgress",
    "Segment",
    "Served",
    "Skipped",
    "StructureDifference",
    "TextDifference",
    "compare",
    "plan_rerun",
    "read",
    "replay",
    "rerun",
]
