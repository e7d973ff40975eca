"""Counting tokens: `Client.count_tokens` returns a `TokenCount`."""

from ollama_otel._counting import MessageLike, ToolLike
from ollama_otel._tokens.counts import CountTier, TokenCount

__all__ = ["CountTier", "MessageLike", "TokenCount", "ToolLike"]
