"""Agents: run a model and its tool calls, round after round, until it answers."""

from __future__ import annotations

from ollama_otel._agent.agent import (
    Agent,
    AgentStream,
    AsyncAgentStream,
    BeforeTool,
    Prompt,
    ToolLike,
)
from ollama_otel._agent.chat import tool_message
from ollama_otel._agent.machine import AtLimit, OnError, OnLeak
from ollama_otel._agent.toolbox import AgentTool
from ollama_otel._agent.values import (
    AgentRun,
    AgentRunError,
    Allow,
    Decision,
    Defer,
    Deny,
    EndEvent,
    Event,
    Round,
    TextEvent,
    ThinkingEvent,
    ToolCallEvent,
    ToolCallResult,
    ToolResultEvent,
)
from ollama_otel._exchange.agent_runs import RunEnding, ToolOutcome
from ollama_otel.errors import AgentError, ToolSchemaError
from ollama_otel.records import ToolCall

__all__ = [
    "Agent",
    "AgentError",
    "AgentRun",
    "AgentRunError",
    "AgentStream",
    "AgentTool",
    "Allow",
    "AsyncAgentStream",
    "AtLimit",
    "BeforeTool",
    "Decision",
    "Defer",
    "Deny",
    "EndEvent",
    "Event",
    "OnError",
    "OnLeak",
    "Prompt",
    "Round",
    "RunEnding",
    "TextEvent",
    "ThinkingEvent",
    "ToolCall",
    "ToolCallEvent",
    "ToolCallResult",
    "ToolLike",
    "ToolOutcome",
    "ToolResultEvent",
    "ToolSchemaError",
    "tool_message",
]
