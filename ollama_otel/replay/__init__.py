"""What was asked and answered, kept and played back."""

from __future__ import annotations

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
