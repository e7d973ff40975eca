"""Each open request has a connection, and closed ones give theirs back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from ollama_otel._load.connections import Connections
from ollama_otel.testing import FakeOllama, Fault

Steps = Callable[[httpx.AsyncClient, Connections], Awaitable[None]]


def used(fake: FakeOllama, steps: Steps) -> int:
    """Run steps with a client; return how many connections they needed."""

    async def main(url: str) -> int:
        connections = Connections()
        async with httpx.AsyncClient(base_url=url, transport=connections) as client:
            await steps(client, connections)
        return len(connections._all)

    with fake.serve() as url:
        return asyncio.run(main(url))


async def get(client: httpx.AsyncClient, *_: Any) -> None:
    assert (await client.get("/api/version")).status_code == 200


async def one_after_the_other(client: httpx.AsyncClient, _: Connections) -> None:
    for _number in range(3):
        await get(client)


async def three_at_once_and_one_more(client: httpx.AsyncClient, _: Connections) -> None:
    opened = [
        await client.send(client.build_request("GET", "/api/version"), stream=True)
        for _number in range(3)
    ]
    for response in opened:
        await response.aread()
        await response.aclose()
        # A response closes its body once.
        await response.aclose()
    await asyncio.gather(*(get(client) for _number in range(3)))


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    ("steps", "count"), [(one_after_the_other, 1), (three_at_once_and_one_more, 3)]
)
def test_a_connection_is_used_again_when_its_request_has_ended(steps: Steps, count: int) -> None:
    assert used(FakeOllama(), steps) == count


@pytest.mark.sockets
def test_a_failed_request_gives_its_connection_back() -> None:
    fake = FakeOllama()
    fake.fault("/api/version", Fault(refuse=True))

    async def fail_and_go_on(client: httpx.AsyncClient, connections: Connections) -> None:
        with pytest.raises(httpx.TransportError):
            await get(client)
        await get(client)

    assert used(fake, fail_and_go_on) == 1
