"""Typed values from a real Ollama."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel

from ollama_otel import AsyncClient, Client
from ollama_otel.structured import OutputMismatchError
from ollama_otel.testing import Capture

from .servers import RealOllama

ASKED = "Extract the product."
MESSAGES = [{"role": "user", "content": ASKED}]


class Product(BaseModel):
    product_name: str
    price: int
    colors: list[str]


PHOTON = Product(product_name="Photon X1", price=3999, colors=["black", "silver", "gold"])


def refuse(price: int) -> int:
    raise ValueError("too cheap")


class Refusing(Product):
    price: Annotated[int, AfterValidator(refuse)]


@pytest.fixture
def client(real_ollama: RealOllama, capture: Capture) -> Iterator[Client]:
    with Client(real_ollama.url, **capture.options) as client:
        yield client


def outcomes(capture: Capture) -> list[Any]:
    spans = [span for span in capture.spans if span.name.startswith("structured_output ")]
    return [(span.attributes or {}).get("ollama.structured.outcome") for span in spans]


@pytest.mark.parametrize("call", ["chat", "generate"])
def test_an_answer_is_a_value(client: Client, capture: Capture, call: str) -> None:
    asked: dict[str, Any] = {"messages": MESSAGES} if call == "chat" else {"prompt": ASKED}
    answer = getattr(client, call)("tiny-agent", format=Product, **asked)
    assert answer.parsed == PHOTON
    assert answer.done_reason == "stop"
    *_, last = getattr(client, call)("tiny-agent", format=Product, stream=True, **asked)
    assert last.parsed == PHOTON
    assert outcomes(capture) == ["parsed", "parsed"]
    parents = {span.context.span_id for span in capture.spans if span.parent is None}
    assert len(parents) == 2


async def test_an_answer_of_the_async_client_is_a_value(real_ollama: RealOllama) -> None:
    async with AsyncClient(real_ollama.url) as client:
        assert await client.extract(Product, ASKED, model="tiny-agent") == PHOTON
        parts = await client.chat("tiny-agent", MESSAGES, format=Product, stream=True)
        grown = [part.partial async for part in parts]
    assert grown[-1] == PHOTON.model_dump()
    assert {"product_name": "Photon X1"} in grown


def test_a_model_that_does_not_stop_thinking_ignores_the_schema(
    client: Client, capture: Capture
) -> None:
    with pytest.raises(OutputMismatchError) as caught:
        client.extract(Product, ASKED, model="tiny-thinker")
    assert caught.value.outcome == "schema_ignored"
    assert caught.value.attempts[0].response.message.thinking
    assert client.extract(Product, ASKED, model="tiny-thinker", think=False) == PHOTON
    assert outcomes(capture) == ["schema_ignored", "parsed"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_cut_by_num_predict(client: Client, capture: Capture, stream: bool) -> None:
    with pytest.raises(OutputMismatchError, match="cut_by_num_predict") as caught:
        # A response is read as well, which does not matter.
        list(
            client.chat(
                "tiny-agent",
                MESSAGES,
                format=Product,
                stream=stream,
                attempts=3,
                options={"num_predict": 9},
            )
        )
    assert len(caught.value.attempts) == 1
    assert outcomes(capture) == ["cut_by_num_predict"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_is_asked_again(client: Client, capture: Capture, stream: bool) -> None:
    with pytest.raises(OutputMismatchError) as caught:
        list(
            client.chat(
                "tiny-agent",
                MESSAGES,
                format=Refusing,
                stream=stream,
                attempts=2,
                options={"num_predict": 300},
            )
        )
    first, second = caught.value.attempts
    assert first.outcome == "schema_mismatch"
    assert first.reasons == ("price: Value error, too cheap",)
    assert first.text != second.text
    [parent] = [span for span in capture.spans if span.parent is None]
    calls = [span for span in capture.spans if span is not parent]
    assert [span.name for span in calls] == ["chat tiny-agent"] * 2
    assert all(call.parent == parent.context for call in calls)
