"""Functions and schemas become tools, and their arguments are validated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

import ollama
import pytest
from ollama._utils import convert_function_to_tool

from ollama_otel._agent.arguments import InvalidArgumentsError, Parameters
from ollama_otel._agent.toolbox import AgentTool, Toolbox
from ollama_otel.errors import AgentError, OllamaOtelError, ToolSchemaError

from .scripted import multiply, weather


def schema(name: Any = "weather", **parameters: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": "Weather.",
            "parameters": {"type": "object", **parameters},
        },
    }


def parameters_of(tool: Any) -> Parameters:
    box = Toolbox([tool])
    found = box.find(box.names[0])
    assert found is not None
    return found.parameters


# --- definitions --------------------------------------------------------------------------


def typed(function: Any) -> Any:
    """Give a function the types that its annotations name, as the converter needs them."""
    function.__annotations__ = {"city": str, "days": int, "unit": Literal["C", "F"], "note": str}
    return function


def test_a_function_is_described_as_the_official_client_does() -> None:
    def forecast(city: str, days: int = 3, unit: Literal["C", "F"] = "C", note=None):
        """Forecast.

        Args:
            city: Its name.
            days: How many.

        Returns:
            A text.
        """

    official = convert_function_to_tool(typed(forecast))
    assert Toolbox([forecast]).definitions == [official.model_dump(exclude_none=True)]


def test_annotations_that_are_texts_are_resolved() -> None:
    # In this module all are texts; the official converter alone does not find `Mapping`.
    def store(values: Mapping[str, int], note: Optional[str] = None) -> None:  # noqa: UP045
        """Store."""

    with pytest.raises(Exception, match="not fully defined"):
        convert_function_to_tool(store)
    [definition] = Toolbox([store]).definitions
    assert definition["function"]["parameters"]["properties"]["values"]["type"] == "object"
    assert definition["function"]["parameters"]["required"] == ["values"]


class LookUp:
    """Look up."""

    def __call__(self, key: str) -> str:
        return key

    def method(self, key: str) -> str:
        """Look up."""
        return key


@pytest.mark.parametrize(
    ("tool", "name", "names"),
    [
        (functools.partial(multiply, 2), "multiply", ["b"]),
        (functools.partial(multiply, b=2), "multiply", ["a", "b"]),
        (LookUp(), "LookUp", ["key"]),
        (LookUp().method, "method", ["key"]),
    ],
)
def test_other_callables(tool: Any, name: str, names: list[str]) -> None:
    [definition] = Toolbox([tool]).definitions
    assert definition["function"]["name"] == name
    assert list(definition["function"]["parameters"]["properties"]) == names


def test_a_schema_is_sent_as_it_is() -> None:
    # The official type would drop `minimum`.
    given = schema(properties={"days": {"type": "integer", "minimum": 1}})
    assert Toolbox([given]).definitions == [given]
    official = ollama.Tool.model_validate(given)
    assert Toolbox([official]).definitions == [official.model_dump(exclude_none=True)]


def test_a_function_with_a_schema_of_its_own() -> None:
    given = schema(properties={"city": {"type": "string"}}, required=["city"])
    box = Toolbox([AgentTool(function=lambda city: city, schema=given)])
    assert box.definitions == [given]
    tool = box.find("weather")
    assert tool is not None and tool.function is not None


def undefined(value: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Undefined."""


class Plain:
    pass


def strange(value: Plain) -> None:
    """Strange."""


def positional(value: int, /) -> None:
    """Positional."""


def variadic(*values: int) -> None:
    """Variadic."""


def indescribable(function: Callable[[], int]) -> None:
    """Indescribable."""


class Unsigned:
    __signature__ = "none"

    def __call__(self) -> None:
        """Unsigned."""


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([indescribable], "'indescribable': the official client cannot describe it"),
        ([Unsigned()], "'Unsigned' has no signature that can be read"),
        ([AgentTool(function=weather, max_result_size=0)], "max_result_size of 1 or more, found 0"),
        ([lambda x: x], "'<lambda>' is not one: define the function with `def`"),
        ([weather, weather], "two tools have the name 'weather'"),
        ([weather, schema()], "two tools have the name 'weather'"),
        ([42], "expected a function, the schema of a tool, or an AgentTool, found int"),
        ([str], "found str"),
        ([{}], "expected a tool with a `function` that has a `name`"),
        ([{"type": "function", "function": {"name": 5}}], "this is not the schema of a tool"),
        ([schema(name="")], "has a `name`"),
        ([{"type": "function", "function": "weather"}], "this is not the schema of a tool"),
        ([schema(type="array")], "this is not the schema of a tool"),
        ([schema(required=["city"])], "'city' is required, and no property"),
        ([schema(properties={}, required="city")], "this is not the schema of a tool"),
        ([AgentTool()], "needs a function, a schema, or both"),
        ([AgentTool(function=weather, timeout=0)], "timeout above 0 s, found 0"),
        ([undefined], "'undefined': a type in its signature is not known"),
        ([strange], "'strange', parameter 'value': pydantic cannot validate its type"),
        ([positional], "'value' is positional-only"),
        ([variadic], r"'values' is \*args"),
        ([print], "'args' is|no signature"),
    ],
)
def test_a_wrong_tool_is_refused_with_a_reason(tools: list[Any], message: str) -> None:
    with pytest.raises(ToolSchemaError, match=message) as caught:
        Toolbox(tools)
    assert isinstance(caught.value, (AgentError, OllamaOtelError, ValueError))


# --- arguments ----------------------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: int


def test_arguments_are_converted_to_the_types_of_the_signature() -> None:
    def draw(start: Point, sizes: list[float], kind: Literal["line", "dot"] = "line", **more: Any):
        """Draw."""

    given = {"start": {"x": 1, "y": "2"}, "sizes": ["1.5", 2], "colour": "red"}
    assert parameters_of(draw).validated(given) == {
        "start": Point(1, 2),
        "sizes": [1.5, 2.0],
        "colour": "red",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": "x", "b": 1}, "a: Input should be a valid integer"),
        ({"a": 1}, "b: it is missing"),
        ({"a": 1, "b": 2, "c": 3}, "c: there is no such parameter; known: a, b"),
        ({"a": 1.5, "c": 3}, "a: .*; b: it is missing; c: there is no such"),
        ("a=1", "arguments: expected an object"),
        (None, "arguments: expected an object"),
    ],
)
def test_invalid_arguments_are_named(given: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=message):
        parameters_of(multiply).validated(given)


def test_a_parameter_with_a_default_may_be_left_out() -> None:
    def greet(name: str, times: int = 1) -> None:
        """Greet."""

    assert parameters_of(greet).validated({"name": "Ann"}) == {"name": "Ann"}


SCHEMA = {
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["C", "F"]},
        "tags": {"type": "array", "items": {"type": "string"}},
        "where": {"type": "object"},
        "note": {"type": ["string", "null"]},
        "level": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
        "odd": {"$ref": "#/$defs/odd"},
        "list": {"type": "array"},
    },
    "required": ["city"],
}


@pytest.mark.parametrize(
    "given",
    [
        {"city": "Rome"},
        {"city": "Rome", "days": 3, "unit": "F", "tags": ["a"], "where": {"x": 1}, "note": None},
        {"city": "Rome", "level": True, "odd": [1], "list": [1], "more": 1},
    ],
)
def test_arguments_that_fit_a_schema(given: dict[str, Any]) -> None:
    assert parameters_of(schema(**SCHEMA)).validated(given) == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "city: it is missing"),
        ({"city": 5}, "city: Input should be a valid string"),
        ({"city": "Rome", "days": "many"}, "days: Input should be a valid integer"),
        ({"city": "Rome", "unit": "K"}, "unit: Input should be 'C' or 'F'"),
        ({"city": "Rome", "tags": [1]}, "tags.0: Input should be a valid string"),
        ({"city": "Rome", "where": 1}, "where: Input should be a valid dictionary"),
    ],
)
def test_arguments_that_do_not_fit_a_schema(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentsError, match=message):
        parameters_of(schema(**SCHEMA)).validated(given)


def test_a_schema_may_refuse_further_properties() -> None:
    strict = schema(properties={"city": {"type": "string"}}, additionalProperties=False)
    with pytest.raises(InvalidArgumentsError, match="more: there is no such parameter"):
        parameters_of(strict).validated({"city": "Rome", "more": 1})
