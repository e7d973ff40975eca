"""What was asked and answered, kept and played back."""

from __future__ import annotations

from ollama_otel._replay_log.call import Chunk, RecordedCall

__all__ = ["Chunk", "RecordedCall"]
