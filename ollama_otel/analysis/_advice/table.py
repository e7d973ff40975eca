"""The rules, one row each."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.answers import ANSWER_CUT, ANSWER_RUNAWAY, JSON_TEMPERATURE
from ollama_otel.analysis._advice.cancels import CANCELS_IN_ROW
from ollama_otel.analysis._advice.context import CONTEXT_TOO_LARGE
from ollama_otel.analysis._advice.cuts import PROMPT_CUT
from ollama_otel.analysis._advice.gpu import MODEL_ON_CPU
from ollama_otel.analysis._advice.keep_alive import KEEP_ALIVE_SHORT
from ollama_otel.analysis._advice.num_ctx import MIXED_NUM_CTX, OTHER_NUM_CTX
from ollama_otel.analysis._advice.prompt_cache import CACHE_BROKEN, CACHE_TAKEN
from ollama_otel.analysis._advice.retries import RETRY_STORM
from ollama_otel.analysis._advice.rule import Rule
from ollama_otel.analysis._advice.tool_loop import TOOL_LOOP

__all__ = ["RULES"]

RULES: Final[tuple[Rule, ...]] = (
    MIXED_NUM_CTX,
    OTHER_NUM_CTX,
    KEEP_ALIVE_SHORT,
    PROMPT_CUT,
    CONTEXT_TOO_LARGE,
    MODEL_ON_CPU,
    TOOL_LOOP,
    RETRY_STORM,
    CANCELS_IN_ROW,
    CACHE_TAKEN,
    CACHE_BROKEN,
    ANSWER_RUNAWAY,
    ANSWER_CUT,
    JSON_TEMPERATURE,
)
