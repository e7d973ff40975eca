"""The tools of an agent: functions and schemas become definitions for the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ollama
from msgspec import Struct
from ollama._utils import convert_function_to_tool

from ollama_otel._agent.arguments import Parameters, resolved_signature
from ollama_otel._agent.settings import expect_seconds, expect_whole_number
from ollama_otel.errors import SettingsError, ToolSchemaError

__all__ = ["AgentTool", "KnownTool", "Toolbox"]


class AgentTool(Struct, frozen=True, kw_only=True):
    """A tool with its own settings; most tools need only a function or a schema."""

    function: Callable[..., Any] | None = None
    """Sync or async. None: calls of the tool are deferred to the caller of the agent."""
    schema: Mapping[str, Any] | ollama.Tool | None = None
    """The definition as `client.chat(tools=...)` takes it. None: made from the function."""
    timeout: float | None = None
    """Time limit of one call, seconds; None: the agent's `tool_timeout`."""
    max_result_size: int | None = None
    """Most characters of the result that are sent to the model; None: the agent's setting."""


class KnownTool(Struct, frozen=True, kw_only=True):
    """A tool of an agent, ready to be called."""

    name: str
    description: str | None
    definition: Mapping[str, Any]
    """The definition that is sent to the server."""
    parameters: Parameters
    function: Callable[..., Any] | None
    is_async: bool
    timeout: float | None
    max_result_size: int | None


class Toolbox:
    """The tools of one agent, by name."""

    def __init__(self, tools: Iterable[Any]) -> None:
        """Raises `ToolSchemaError` for a tool that cannot be described, and for equal names."""
        if not isinstance(tools, Iterable) or isinstance(tools, str | Mapping | ollama.Tool):
            raise ToolSchemaError("expected a list of tools: for a single one, a list with it")
        self._tools: dict[str, KnownTool] = {}
        for tool in tools:
            known = _known(tool)
            if known.name in self._tools:
                raise ToolSchemaError(f"two tools have the name {known.name!r}: rename one")
            self._tools[known.name] = known

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tools)

    @property
    def definitions(self) -> list[Mapping[str, Any]]:
        return [tool.definition for tool in self._tools.values()]

    def find(self, name: str) -> KnownTool | None:
        return self._tools.get(name)


def _known(given: Any) -> KnownTool:
    tool = given if isinstance(given, AgentTool) else _wrapped(given)
    if tool.schema is not None:
        definition = _checked(tool.schema)
    elif tool.function is not None:
        definition = _converted(tool.function)
    else:
        raise ToolSchemaError("an AgentTool needs a function, a schema, or both")
    about = ollama.Tool.model_validate(definition).function
    if about is None or not about.name:
        raise ToolSchemaError("expected a tool with a `function` that has a `name`")
    name, function = about.name, tool.function
    parameters = (
        Parameters.of_function(resolved_signature(function, name), name)
        if function is not None and tool.schema is None
        else Parameters.of_schema(definition["function"].get("parameters") or {}, name)
    )
    try:
        if tool.timeout is not None:
            expect_seconds("timeout", tool.timeout)
        if tool.max_result_size is not None:
            expect_whole_number("max_result_size", tool.max_result_size, 1)
    except SettingsError as error:
        raise ToolSchemaError(f"tool {name!r}: {error}") from None
    return KnownTool(
        name=name,
        description=about.description,
        definition=definition,
        parameters=parameters,
        function=function,
        is_async=function is not None and _is_async(function),
        timeout=tool.timeout,
        max_result_size=tool.max_result_size,
    )


def _wrapped(given: Any) -> AgentTool:
    if isinstance(given, Mapping | ollama.Tool):
        return AgentTool(schema=given)
    if callable(given) and not isinstance(given, type):
        return AgentTool(function=given)
    raise ToolSchemaError(
        "expected a function, the schema of a tool, or an AgentTool, "
        f"found {given.__name__ if isinstance(given, type) else type(given).__qualname__}"
    )


def _is_async(function: Callable[..., Any]) -> bool:
    call = getattr(function, "func", function)  # of a partial
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)


# --- functions ----------------------------------------------------------------------------


def _converted(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the definition that the official converter makes of a function."""
    original = getattr(function, "func", function)
    name = getattr(original, "__name__", None) or type(original).__name__
    if not name.isidentifier():
        raise ToolSchemaError(
            f"a tool needs a name, and {name!r} is not one: define the function with `def`"
        )
    signature = resolved_signature(function, name)
    # Fails with a clear message where the converter would not.
    Parameters.of_function(signature, name)

    # The converter resolves names of types in its own module, so it gets resolved types.
    def described() -> None: ...

    described.__name__ = name
    described.__doc__ = inspect.getdoc(original)
    named = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    described.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    try:
        made = convert_function_to_tool(described)
    except Exception as error:
        raise ToolSchemaError(
            f"tool {name!r}: the official client cannot describe it ({type(error).__name__}): "
            "use simpler types, or AgentTool(function=..., schema=...)"
        ) from error
    return made.model_dump(exclude_none=True)


# --- schemas ------------------------------------------------------------------------------


def _checked(schema: Mapping[str, Any] | ollama.Tool) -> Mapping[str, Any]:
    """Return the definition of a schema, with the keys that the official type would drop."""
    if isinstance(schema, ollama.Tool):
        return schema.model_dump(exclude_none=True)
    try:
        ollama.Tool.model_validate(schema)
    except ValueError as error:
        raise ToolSchemaError(f"this is not the schema of a tool: {error}") from error
    return schema
