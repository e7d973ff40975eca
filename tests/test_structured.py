"""Typed values as answers: what is sent, what comes back, and what is said of the rest."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import sys
import traceback
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from ollama_otel import Client, Instrumentation, uninstrument_client
from ollama_otel._attempt import StructuredOutcome
from ollama_otel._structured.output_type import OutputType, is_type
from ollama_otel.structured import (
    ChatPart,
    FormatError,
    GeneratePart,
    OutputMismatchError,
    ParsedChatResponse,
    ParsedGenerateResponse,
)
from ollama_otel.testing import Capture, FakeModel, FakeOllama, Fault, Reply
from tests.documents import blocks_of

from .colours import COLOURS, Colour, closed, done, each

HOST = "http://127.0.0.1:11434"
ASK = [{"role": "user", "content": "Extract the product."}]
AT = "2026-01-01T00:00:00Z"
ANSWERS = "ollama.client.structured.answers"
GOOD = '{"name": "Photon", "price": 3}'
NEGATIVE = '{"name": "Photon", "price": -3}'
SECRET = "hunter2-in-the-answer"

# Trio warns of a generator left behind, as httpx leaves its own of a stream that is left.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator .* was garbage collected:ResourceWarning"
)

Price = Annotated[int, Field(ge=0)]


class Model(BaseModel):
    name: str
    price: Price


@dataclass
class Data:
    name: str
    price: Price


class Typed(TypedDict):
    name: str
    price: Price


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class PlainTyped(typing.TypedDict):
    """Of a Python that pydantic can use from 3.12 on."""

    name: str


class Odd:
    """Nothing that pydantic knows."""


# --- scripted answers ---------------------------------------------------------------------


def part(text: str = "", *, call: str = "chat", thinking: str = "", **rest: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"response": text}
    if call == "chat":
        content = {"message": {"role": "assistant", "content": text}}
    if thinking:
        (content["message"] if call == "chat" else content)["thinking"] = thinking
    return {"model": "m", "created_at": AT, **content, "done": False, **rest}


def reply(text: str, *, call: str = "chat", stream: bool = False, **rest: Any) -> Reply:
    """An answer that ends well, unless `rest` says otherwise; a stream has a part per character."""
    end = {"done": True, "done_reason": "stop", **rest}
    thinking = end.pop("thinking", "")
    if not stream:
        return Reply.json(part(text, call=call, thinking=thinking, **end))
    parts = [part(each, call=call) for each in text]
    if thinking:
        parts.insert(0, part(call=call, thinking=thinking))
    return Reply.stream([*parts, part(call=call, **end)] if end["done"] else parts)


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


class Scene:
    """A client of one colour on a fake server, and what it is asked for."""

    def __init__(self, colour: Colour, call: str, *, stream: bool) -> None:
        self.colour, self.call, self.stream = colour, call, stream
        self.server = FakeOllama()
        self.capture = Capture()
        self.parts: list[Any] = []

    def answer(self, text: str, **rest: Any) -> None:
        self.server.script(
            f"/api/{self.call}", reply(text, call=self.call, stream=self.stream, **rest)
        )

    def ask(self, form: Any = Model, **options: Any) -> Any:
        """The value, by whichever way; what is raised is raised."""

        async def scenario() -> Any:
            client = self.colour.ours(
                HOST, transport=self.server.transport(), **self.capture.options
            )
            asked = {"messages": ASK} if self.call == "chat" else {"prompt": "Extract."}
            given = {**asked, "format": form, "stream": self.stream, **options}
            try:
                result = await done(getattr(client, self.call)("m", **given))
                if not self.stream:
                    return result.parsed
                async for each_part in each(result):
                    self.parts.append(each_part)
                return self.parts[-1].parsed
            finally:
                await closed(client)

        return self.colour.run(scenario)

    def bodies(self) -> list[Any]:
        return [request.json() for request in self.server.requests]

    def parent(self) -> Any:
        """The one span of the operation; those of the calls are its children."""
        [span] = [each for each in self.capture.spans if each.name == "structured_output m"]
        calls = [each for each in self.capture.spans if each is not span]
        assert len(calls) == len(self.server.requests)
        assert {each.parent.span_id for each in calls} == {span.context.span_id}
        return span

    def counted(self) -> dict[tuple[str, bool], float]:
        return {
            (
                point.attributes["ollama.structured.outcome"],
                point.attributes["ollama.structured.is_final"],
            ): point.value
            for point in self.capture.metrics().get(ANSWERS, [])
        }


@pytest.fixture(params=["chat", "generate"])
def call(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def scene(request: pytest.FixtureRequest, colour: Colour, call: str) -> Scene:
    return Scene(colour, call, stream=request.param)


# --- values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (Model, Model(name="Photon", price=3)),
        (Data, Data("Photon", 3)),
        (Typed, {"name": "Photon", "price": 3}),
        (TypeAdapter(Model | None), Model(name="Photon", price=3)),
        (Model | None, Model(name="Photon", price=3)),
        (Annotated[Model, Field(title="Priced")], Model(name="Photon", price=3)),
        (dict[str, str | int], {"name": "Photon", "price": 3}),
    ],
    ids=str,
)
def test_an_answer_is_a_value_of_its_type(scene: Scene, form: Any, value: Any) -> None:
    scene.answer(GOOD)
    assert scene.ask(form) == value
    [body] = scene.bodies()
    adapter = form if isinstance(form, TypeAdapter) else TypeAdapter(form)
    assert body["format"] == adapter.json_schema()
    span = scene.parent()
    assert span.attributes["ollama.structured.outcome"] == "parsed"
    assert span.attributes["ollama.outcome"] == "completed"
    assert span.status.is_unset
    assert scene.counted() == {("parsed", True): 1}


def test_the_span_says_what_was_requested_and_has_no_usage(scene: Scene) -> None:
    scene.answer(GOOD, prompt_eval_count=3, eval_count=4)
    scene.ask()
    assert dict(scene.parent().attributes) == {
        "ollama.operation.name": "structured_output",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": "m",
        "ollama.structured.type": "Model",
        "ollama.structured.outcome": "parsed",
        "ollama.structured.attempt_count": 1,
        "ollama.outcome": "completed",
    }


def test_a_response_is_an_official_one(colour: Colour, call: str) -> None:
    scene = Scene(colour, call, stream=False)
    server = FakeOllama()
    text = reply(GOOD, call=call, thinking="Hm", eval_count=4)
    server.script(f"/api/{call}", text, text)
    official = ollama.Client(HOST, transport=server.transport())
    ours = Client(HOST, transport=server.transport(), **scene.capture.options)
    asked = {"messages": ASK} if call == "chat" else {"prompt": "Extract."}
    expected = getattr(official, call)("m", **asked)
    found = getattr(ours, call)("m", **asked, format=Model)
    assert isinstance(found, ParsedChatResponse | ParsedGenerateResponse)
    assert isinstance(found, type(expected))
    assert found.model_dump() == expected.model_dump()
    assert found.model_dump_json() == expected.model_dump_json()
    assert found.model_fields_set == expected.model_fields_set
    assert found["eval_count"] == 4
    assert [attempt.outcome for attempt in found.attempts] == ["parsed"]
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert again.parsed == Model(name="Photon", price=3)


@pytest.mark.parametrize("kind", [None, "json", 5, {"type": "object"}, Model(name="x", price=1)])
def test_extract_takes_types_only(colour: Colour, kind: Any) -> None:
    server = FakeOllama()

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport())
        with pytest.raises(FormatError, match="expected a type to extract, found"):
            await done(client.extract(kind, "Seven", model="m"))
        with pytest.raises(TypeError, match="stream"):
            await done(client.extract(int, "Seven", model="m", stream=True))
        await closed(client)

    colour.run(scenario)
    assert server.requests == []


def test_extract_gives_the_value(colour: Colour) -> None:
    server = FakeOllama()
    server.script("/api/chat", reply(NEGATIVE), reply(GOOD), reply("[1, 2]"))

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport())
        asked = "Extract the product."
        value = await done(client.extract(Model, asked, model="m", attempts=2, think=False))
        assert value == Model(name="Photon", price=3)
        assert await done(client.extract(list[int], ASK, model="m")) == [1, 2]
        await closed(client)

    colour.run(scenario)
    bodies = [request.json() for request in server.requests]
    assert [body["messages"][0] for body in bodies] == ASK * 3
    assert [body.get("think") for body in bodies] == [False, False, None]


# --- what is no type goes through untouched -----------------------------------------------


@pytest.mark.parametrize("form", [None, "", "json", {"type": "object"}, {}], ids=repr)
@pytest.mark.parametrize("stream", [False, True])
def test_other_formats_go_as_the_official_client_sends_them(
    colour: Colour, call: str, form: Any, stream: bool
) -> None:
    asked = {"messages": ASK} if call == "chat" else {"prompt": "Extract."}
    bodies, results = [], []
    for kind in (colour.official, colour.ours):
        server = FakeOllama(clock=lambda: 1_750_000_000.0)

        async def scenario(kind: Any = kind, server: FakeOllama = server) -> list[Any]:
            client = kind(HOST, transport=server.transport())
            given = {"model": "llama3.2", **asked, "format": form, "stream": stream}
            result = await done(getattr(client, call)(**given))
            parts = [part async for part in each(result)] if stream else [result]
            await closed(client)
            return parts

        results.append(colour.run(scenario))
        bodies.append([request.body for request in server.requests])
    assert bodies[0] == bodies[1]
    assert results[0] == results[1]
    assert [type(part) for part in results[0]] == [type(part) for part in results[1]]


@pytest.mark.parametrize("form", [5, object(), b"json", ["name"]], ids=repr)
def test_what_the_official_client_refuses_is_refused_as_there(form: Any) -> None:
    messages = []
    for kind in (ollama.Client, Client):
        with pytest.raises(ValueError, match="format") as caught:
            kind(HOST).chat("m", ASK, format=form)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("options", [{"attempts": 2}, {"schema_in_prompt": True}], ids=str)
def test_without_a_type_there_is_nothing_to_attempt(
    colour: Colour, call: str, options: dict[str, Any]
) -> None:
    async def scenario() -> None:
        with pytest.raises(TypeError, match="need a type as format"):
            await done(getattr(colour.ours(HOST), call)("m", format="json", **options))

    colour.run(scenario)


@pytest.mark.parametrize("form", [Model, Data, Typed, int, list[int], int | str, Tree])
def test_types_are_known(form: Any) -> None:
    assert is_type(form)


# --- what cannot be requested -------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        (Odd, {}, "no JSON schema can be made of Odd"),
        (dict[str, Odd], {}, "no JSON schema can be made of dict"),
        (Annotated[list[Odd], {"unhashable": []}], {}, "no JSON schema can be made of"),
        pytest.param(
            *(PlainTyped, {}, "use `typing_extensions.TypedDict`"),
            marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes it"),
        ),
        (Callable[[int], int], {}, "no JSON schema can be made of"),
        (Model, {"attempts": 0}, "attempts must be a whole number of at least 1, not 0"),
        (Model, {"attempts": 1.5}, "attempts must be a whole number of at least 1, not 1.5"),
        (Model, {"attempts": True}, "attempts must be a whole number of at least 1, not True"),
        (Model, {"messages": []}, "needs messages"),
        (Model, {"tools": [max]}, "together with tools"),
    ],
    ids=str,
)
def test_what_cannot_be_requested_is_an_error_before_anything_is_sent(
    colour: Colour, form: Any, options: dict[str, Any], message: str
) -> None:
    scene = Scene(colour, "chat", stream=False)
    with pytest.raises(FormatError, match=message) as caught:
        scene.ask(form, **options)
    assert isinstance(caught.value, TypeError)
    assert scene.bodies() == []
    assert scene.capture.spans == []


def test_a_prompt_is_needed(colour: Colour) -> None:
    scene = Scene(colour, "generate", stream=False)
    with pytest.raises(FormatError, match="needs a prompt"):
        scene.ask(prompt="")
    assert scene.bodies() == []


# --- outcomes -----------------------------------------------------------------------------


OUTCOMES: list[tuple[str, dict[str, Any], StructuredOutcome]] = [
    (NEGATIVE, {}, "schema_mismatch"),
    ('{"name": "Photon", "price": "three"}', {}, "schema_mismatch"),
    ('{"name": "Photon"', {}, "schema_mismatch"),
    ("Hello! How can I help?", {}, "schema_ignored"),
    ("```json\n" + GOOD + "\n```", {}, "schema_ignored"),
    ('{"product": "Photon"}', {}, "schema_ignored"),
    ("[3]", {}, "schema_ignored"),
    ("", {}, "schema_ignored"),
    ("", {"thinking": '{"name": "Photon", "price": 3}'}, "schema_ignored"),
    ('{"name": "Pho', {"done_reason": "length"}, "cut_by_num_predict"),
    ('{"name": "Photon", "price": 3', {"done_reason": "length"}, "cut_by_num_predict"),
    ("", {"done_reason": "length", "thinking": "Let me see"}, "cut_by_num_predict"),
    ('{"name": "Pho', {"done": False, "done_reason": None}, "incomplete"),
    ("", {"done": False, "done_reason": None}, "incomplete"),
]


@pytest.mark.parametrize(("text", "rest", "outcome"), OUTCOMES, ids=str)
def test_what_became_of_an_answer_has_a_name(
    scene: Scene, text: str, rest: dict[str, Any], outcome: StructuredOutcome
) -> None:
    scene.answer(text, **rest)
    with pytest.raises(OutputMismatchError) as caught:
        scene.ask()
    error = caught.value
    assert (error.outcome, error.text) == (outcome, text)
    assert error.reasons
    assert [part.parsed for part in scene.parts if part.done] in ([], [None])
    assert [attempt.outcome for attempt in error.attempts] == [outcome]
    assert isinstance(error, ValueError)
    span = scene.parent()
    assert span.attributes["ollama.structured.outcome"] == outcome
    assert span.attributes["ollama.outcome"] == "failed"
    assert span.attributes["error.type"] == outcome
    assert not span.status.is_ok
    assert scene.counted() == {(outcome, True): 1}


@pytest.mark.parametrize("rest", [{"done_reason": "length"}, {"done": False}], ids=str)
def test_a_number_that_may_go_on_is_no_answer(scene: Scene, rest: dict[str, Any]) -> None:
    scene.answer("12", **rest)
    with pytest.raises(OutputMismatchError, match="a int") as caught:
        scene.ask(int)
    assert caught.value.reasons == ("the text ends in a number that may go on",)


def test_a_whole_text_is_an_answer_wherever_the_server_stopped(scene: Scene) -> None:
    scene.answer(GOOD, done_reason="length")
    assert scene.ask() == Model(name="Photon", price=3)


def test_an_answer_without_anything_is_incomplete(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=True)
    scene.server.script("/api/chat", Reply.stream([]))
    with pytest.raises(OutputMismatchError, match="incomplete"):
        scene.ask()


def test_the_error_says_nothing_that_the_model_said(scene: Scene) -> None:
    text = json.dumps({"name": [SECRET], "price": SECRET, SECRET: SECRET})
    scene.answer(text)
    with pytest.raises(OutputMismatchError) as caught:
        scene.ask(dict[str, int])
    printed = "".join(traceback.format_exception(caught.value))
    assert SECRET not in printed
    assert SECRET not in repr(caught.value.attempts)
    assert SECRET in caught.value.text
    recorded = [(span.attributes, span.events, span.status) for span in scene.capture.spans]
    assert SECRET not in str([[dict(a), e, s.description] for a, e, s in recorded])


def test_the_error_can_be_sent_to_another_process(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=False)
    scene.answer(NEGATIVE)
    with pytest.raises(OutputMismatchError) as caught:
        scene.ask()
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is OutputMismatchError
    assert (str(again), again.text) == (str(caught.value), NEGATIVE)
    assert again.reasons == caught.value.reasons


def test_of_many_faults_the_first_are_said(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=False)
    scene.answer(json.dumps(["x"] * 1000))
    with pytest.raises(OutputMismatchError) as caught:
        scene.ask(list[int])
    assert len(caught.value.reasons) == 21
    assert caught.value.reasons[-1] == "and 980 more"


@given(st.from_type(Model) | st.from_type(Data), st.data())
def test_no_part_of_a_good_answer_is_taken_for_an_ignored_schema(value: Any, data: Any) -> None:
    output: OutputType[Any] = OutputType(type(value))
    text = TypeAdapter(type(value)).dump_json(value).decode()
    cut = data.draw(st.integers(1, len(text)))
    assert output.is_possible(text[:cut])


def test_a_recursive_type_has_required_members_too(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=False)
    scene.answer('{"name": "a", "children": [{"name": "b"}]}')
    assert scene.ask(Tree).children == [Tree(name="b")]
    scene.answer('{"children": []}')
    with pytest.raises(OutputMismatchError, match="schema_ignored"):
        scene.ask(Tree)


# --- asking again -------------------------------------------------------------------------


def test_the_model_is_told_what_is_wrong(scene: Scene) -> None:
    scene.answer(NEGATIVE)
    scene.answer(GOOD)
    assert scene.ask(attempts=3) == Model(name="Photon", price=3)
    first, second = scene.bodies()
    assert second["format"] == first["format"]
    complaint = "- price: Input should be greater than or equal to 0"
    if scene.call == "chat":
        question, answer, again = second["messages"]
        assert [question] == first["messages"] == ASK
        assert (answer["role"], answer["content"]) == ("assistant", NEGATIVE)
        assert again["role"] == "user"
        assert complaint in again["content"].splitlines()
    else:
        assert second["prompt"].startswith(f"Extract.\n\n{NEGATIVE}\n\n")
        assert complaint in second["prompt"].splitlines()
    span = scene.parent()
    assert span.attributes["ollama.structured.attempt_count"] == 2
    assert span.attributes["ollama.structured.outcome"] == "parsed"
    assert scene.counted() == {("schema_mismatch", False): 1, ("parsed", True): 1}


def test_the_first_answers_are_kept(colour: Colour, call: str) -> None:
    scene = Scene(colour, call, stream=False)
    for text in (NEGATIVE, "Hello", NEGATIVE):
        scene.answer(text)
    with pytest.raises(OutputMismatchError, match="after 3 attempts") as caught:
        scene.ask(attempts=3)
    attempts = caught.value.attempts
    assert [attempt.text for attempt in attempts] == [NEGATIVE, "Hello", NEGATIVE]
    assert [attempt.outcome for attempt in attempts] == [
        *("schema_mismatch", "schema_ignored", "schema_mismatch")
    ]
    assert all(attempt.response.done for attempt in attempts)
    assert scene.counted() == {
        ("schema_mismatch", False): 1,
        ("schema_ignored", False): 1,
        ("schema_mismatch", True): 1,
    }
    assert scene.parent().attributes["ollama.structured.attempt_count"] == 3


def test_a_stream_goes_on_with_the_next_answer(colour: Colour, call: str) -> None:
    scene = Scene(colour, call, stream=True)
    scene.answer(NEGATIVE)
    scene.answer(GOOD)
    scene.ask(attempts=2)
    assert [part.attempt for part in scene.parts if part.done] == [1, 2]
    assert [part.parsed for part in scene.parts if part.done] == [
        None,
        Model(name="Photon", price=3),
    ]
    assert {part.attempt for part in scene.parts[: len(NEGATIVE) + 1]} == {1}


def test_a_server_that_ignored_the_schema_is_told_it_in_words(scene: Scene) -> None:
    scene.answer("Hello")
    scene.answer(GOOD)
    scene.ask(attempts=2)
    last = json.dumps(scene.bodies()[1])
    assert json.dumps(json.dumps(Model.model_json_schema(), separators=(",", ":")))[1:-1] in last


def test_a_cut_answer_would_be_cut_again(scene: Scene) -> None:
    scene.answer('{"name": "Pho', done_reason="length")
    with pytest.raises(OutputMismatchError):
        scene.ask(attempts=3)
    assert len(scene.bodies()) == 1
    assert scene.counted() == {("cut_by_num_predict", True): 1}


def test_the_schema_can_be_in_the_prompt_too(scene: Scene) -> None:
    scene.answer(NEGATIVE)
    scene.answer(GOOD)
    scene.ask(schema_in_prompt=True, attempts=2)
    schema = json.dumps(json.dumps(Model.model_json_schema(), separators=(",", ":")))[1:-1]
    for body in scene.bodies():
        assert json.dumps(body).count(schema) == 1
        assert body["format"] == Model.model_json_schema()


def test_messages_of_an_iterator_are_sent_each_time(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=False)
    scene.answer(NEGATIVE)
    scene.answer(GOOD)
    scene.ask(messages=iter([ollama.Message(role="user", content="Extract.")]), attempts=2)
    assert [body["messages"][0]["content"] for body in scene.bodies()] == ["Extract."] * 2


# --- streams ------------------------------------------------------------------------------


def test_values_grow(colour: Colour, call: str) -> None:
    scene = Scene(colour, call, stream=True)
    scene.answer('[{"name": "a", "price": 1}, {"name": "b", "price": 2}]')
    scene.ask(list[Model])
    kind = ChatPart if call == "chat" else GeneratePart
    assert {type(part) for part in scene.parts} == {kind}
    sizes = [len(part.parsed or []) for part in scene.parts]
    assert sizes == sorted(sizes)
    assert set(sizes) == {0, 1, 2}
    partials = [part.partial for part in scene.parts]
    assert partials[:4] == [[], [{}], [{}], [{}]]
    assert {"name": "a"} in [each[0] for each in partials if each]
    assert scene.parts[-1].parsed == [Model(name="a", price=1), Model(name="b", price=2)]


def test_parts_can_be_looked_at_later(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=True)
    scene.answer(GOOD)
    scene.ask()
    assert scene.parts[12].partial == {"name": "Pho"}
    assert scene.parts[0].partial == {}
    assert [part.message.content for part in scene.parts[:-1]] == list(GOOD)


def second_word(name: str) -> str:
    return name.split()[1]


def test_a_validator_that_needs_the_whole_value_gets_it(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=True)
    scene.answer('["Ada Lovelace"]')
    value = scene.ask(list[Annotated[str, AfterValidator(second_word)]])
    assert value == scene.parts[-1].parsed == ["Lovelace"]
    assert scene.parts[3].parsed is None
    assert scene.parts[3].partial == ["Ad"]


def test_what_a_validator_raises_by_mistake_is_the_callers(scene: Scene) -> None:
    scene.answer('["Ada"]')
    with pytest.raises(IndexError):
        scene.ask(list[Annotated[str, AfterValidator(second_word)]])
    span = scene.parent()
    assert span.attributes["ollama.outcome"] == "failed"
    assert span.attributes["error.type"] == "_OTHER"


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 500, '{"name":' * 500, "9" * 5_000, "\x00"], ids=len)
def test_no_text_breaks_the_judgement(scene: Scene, text: str) -> None:
    scene.answer(text)
    with pytest.raises(OutputMismatchError) as caught:
        scene.ask()
    assert caught.value.text == text
    for part in [*scene.parts[:3], *scene.parts[-3:]]:
        assert part.parsed is None
        assert part.partial or not part.partial  # it can be read


def test_a_part_of_no_json_has_no_value(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=True)
    scene.answer("Hello")
    with pytest.raises(OutputMismatchError):
        scene.ask()
    assert [(part.partial, part.parsed) for part in scene.parts] == [(None, None)] * 6


def test_a_stream_is_sent_when_its_first_part_is_requested(colour: Colour) -> None:
    server, capture = FakeOllama(), Capture()

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        stream = await done(client.chat("m", ASK, format=Model, stream=True))
        assert server.requests == []
        await closed(stream)
        await closed(client)

    colour.run(scenario)
    assert server.requests == capture.spans == []


def test_a_stream_that_is_left_is_abandoned(colour: Colour, call: str) -> None:
    scene = Scene(colour, call, stream=True)
    scene.answer(GOOD)
    scene.answer(GOOD)

    async def scenario() -> None:
        client = colour.ours(HOST, transport=scene.server.transport(), **scene.capture.options)
        asked = {"messages": ASK} if call == "chat" else {"prompt": "Extract."}
        stream = await done(getattr(client, call)("m", **asked, format=Model, stream=True))
        async for _ in each(stream):
            break
        await closed(stream)
        await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in scene.capture.records] == ["abandoned"]
    attributes = scene.parent().attributes
    assert attributes["ollama.outcome"] == "abandoned"
    assert "ollama.structured.outcome" not in attributes
    assert "error.type" not in attributes
    assert scene.counted() == {}


def test_a_consumer_that_stops_at_the_last_part_has_completed(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=True)
    scene.answer(GOOD)

    async def scenario() -> None:
        client = colour.ours(HOST, transport=scene.server.transport(), **scene.capture.options)
        stream = await done(client.chat("m", ASK, format=Model, stream=True))
        async for part in each(stream):
            if part.done:
                assert part.parsed == Model(name="Photon", price=3)
                break
        await closed(stream)
        await closed(client)

    colour.run(scenario)
    assert scene.parent().attributes["ollama.outcome"] == "completed"


# --- calls that fail ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "error_type"),
    [
        (Fault(refuse=True), ConnectionError, None),
        (Fault(error_at=0), ollama.ResponseError, "runner_crashed"),
        (Fault(cut_at=10), Exception, "incomplete"),
    ],
    ids=str,
)
def test_an_error_of_a_call_is_the_official_one(
    scene: Scene, fault: Fault, error: type[Exception], error_type: str | None
) -> None:
    scene.answer(GOOD)
    scene.server.fault(f"/api/{scene.call}", fault)
    if fault.refuse and scene.stream:
        error = Exception  # the official client does not convert it for streams
    with pytest.raises(error) as caught:
        scene.ask(attempts=3)
    assert not isinstance(caught.value, OutputMismatchError)
    span = scene.parent()
    assert span.attributes["ollama.outcome"] == "failed"
    assert "ollama.structured.outcome" not in span.attributes
    if error_type is not None:
        assert span.attributes["error.type"] == error_type
    assert scene.counted() == {}


def test_a_missing_model_is_said_so(scene: Scene) -> None:
    with pytest.raises(ollama.ResponseError, match="not found"):
        scene.ask()
    assert scene.parent().attributes["error.type"] == "model_not_found"


def test_an_error_of_a_further_call_keeps_the_count(scene: Scene) -> None:
    scene.answer(NEGATIVE)
    with pytest.raises(ollama.ResponseError, match="not found"):
        scene.ask(attempts=2)
    attributes = scene.parent().attributes
    assert attributes["ollama.structured.attempt_count"] == 2
    assert "ollama.structured.outcome" not in attributes
    assert scene.counted() == {("schema_mismatch", False): 1}


def test_a_cancelled_task_is_cancelled() -> None:
    colour = Colour("asyncio")
    scene = Scene(colour, "chat", stream=False)
    scene.answer(GOOD)
    scene.server.fault("/api/chat", Fault(stall_at=0))

    async def scenario() -> None:
        client = colour.ours(HOST, transport=scene.server.transport(), **scene.capture.options)
        task = asyncio.create_task(client.chat("m", ASK, format=Model))
        while not scene.server.requests:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()

    colour.run(scenario)
    assert scene.parent().attributes["ollama.outcome"] == "cancelled"


# --- what is recorded where ---------------------------------------------------------------


def test_a_client_that_is_not_recorded_gives_values_too() -> None:
    server, capture = FakeOllama(), Capture()
    server.script("/api/chat", reply(GOOD))
    client = Client(HOST, transport=server.transport(), **capture.options)
    uninstrument_client(client)
    assert client.extract(Model, ASK, model="m") == Model(name="Photon", price=3)
    assert capture.spans == []
    # Limiters and breakers of other tests may still be alive: they are on all metrics.
    assert not [name for name in capture.metrics() if name.startswith(("gen_ai.", ANSWERS))]


def test_a_client_over_something_else_gives_values_too() -> None:
    """Somebody replaced the httpx client; the calls are not recorded, and made."""
    server = FakeOllama()
    server.script("/api/chat", reply(GOOD))
    client = Client(HOST, transport=server.transport())
    inner = client._client

    class Wrapper:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

    client._client = Wrapper()
    assert client.extract(Model, ASK, model="m") == Model(name="Photon", price=3)


def test_an_open_stream_ends_with_the_telemetry(colour: Colour) -> None:
    from ollama_otel._exchange import open_calls

    scene = Scene(colour, "chat", stream=True)
    scene.answer(GOOD)

    async def scenario() -> None:
        client = colour.ours(HOST, transport=scene.server.transport(), **scene.capture.options)
        stream = each(await done(client.chat("m", ASK, format=Model, stream=True)))
        await anext(stream)
        with open_calls.ending_all(60.0) as has_ended:
            assert has_ended
        parts = [part async for part in stream]
        assert parts[-1].parsed == Model(name="Photon", price=3)
        await closed(client)

    colour.run(scenario)
    assert {span.attributes["ollama.outcome"] for span in scene.capture.spans} == {"cancelled"}
    assert len(scene.capture.spans) == 2
    scene.parent()


def test_no_operation_stays_open(scene: Scene) -> None:
    from ollama_otel._exchange import open_calls

    scene.answer(GOOD)
    scene.ask()
    with pytest.raises(ollama.ResponseError):
        scene.ask()
    assert open_calls._open == set()
    assert open_calls._ending == set()


def test_the_span_is_not_current_while_the_caller_has_a_part() -> None:
    from opentelemetry.trace import INVALID_SPAN, get_current_span

    server, capture = FakeOllama(), Capture()
    server.script("/api/chat", reply(GOOD, stream=True))
    with Client(HOST, transport=server.transport(), **capture.options) as client:
        for _ in client.chat("m", ASK, format=Model, stream=True):
            assert get_current_span() is INVALID_SPAN
    assert len(capture.spans) == 2


def test_model_names_on_the_counter_are_bounded() -> None:
    from ollama_otel import Settings

    server, capture = FakeOllama(), Capture()
    options = {**capture.options, "settings": Settings(max_models=1)}
    with Client(HOST, transport=server.transport(), **options) as client:
        for number in range(5):
            server.script("/api/chat", reply(GOOD))
            client.extract(Model, ASK, model=f"m{number}")
    models = {point.attributes["gen_ai.request.model"] for point in capture.metrics()[ANSWERS]}
    assert len(models) <= 3
    assert "_OTHER" in models


@pytest.mark.parametrize(
    "place",
    [
        "ollama_otel._telemetry.metrics.MetricObserver.answered",
        "ollama_otel._client_instrumentation.recorded_by",
        "ollama_otel._telemetry.operations.bounded_name",
        "opentelemetry.sdk.trace.Span.set_attributes",
    ],
)
def test_a_fault_of_the_telemetry_is_not_the_callers(
    quiet_guard: None, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, capture = FakeOllama(), Capture()
    server.script("/api/chat", reply(GOOD))
    client = Client(HOST, transport=server.transport(), **capture.options)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(place, fail)
    assert client.extract(Model, ASK, model="m") == Model(name="Photon", price=3)


def test_without_spans_there_is_no_span() -> None:
    server = FakeOllama()
    server.script("/api/chat", reply(GOOD))
    client = Client(HOST, transport=server.transport(), instrumentation=Instrumentation())
    assert client.extract(Model, ASK, model="m") == Model(name="Photon", price=3)


def test_a_part_made_by_hand_has_no_value() -> None:
    part: ChatPart[Model] = ChatPart(message=ollama.Message(role="assistant", content=GOOD))
    assert (part.parsed, part.partial, part.attempt) == (None, None, 1)


def test_a_part_can_be_sent_to_another_process(colour: Colour) -> None:
    scene = Scene(colour, "chat", stream=True)
    scene.answer(GOOD)
    scene.ask()
    for part in (scene.parts[3], scene.parts[-1]):
        again = pickle.loads(pickle.dumps(part))
        assert (again.parsed, again.partial) == (part.parsed, part.partial)


# --- the page -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sockets
def test_the_blocks_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of("structured.md")
    text = '{"name": "Photon X1", "price": 3999, "colors": ["red", "black"]}'
    with FakeOllama([FakeModel("llama3.2", reply=text)]).serve() as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        names: dict[str, Any] = {"__name__": "page"}
        exec("\n".join(blocks), names)
        names["client"].close()
    assert names["product"] == names["part"].parsed == names["answer"].parsed
    assert names["product"].colors == ["red", "black"]


def test_the_page_has_every_outcome() -> None:
    page = (Path(__file__).parents[1] / "docs" / "structured.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(named) == sorted(get_args(StructuredOutcome))
