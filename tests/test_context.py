"""What a caller says of its calls holds inside its block, in its own task and thread only."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest
import trio

from ollama_otel.context import CallContext, call_context, current_call_context


@pytest.fixture(autouse=True)
def nothing_is_said_outside() -> Iterator[None]:
    assert current_call_context() == CallContext()
    yield
    assert current_call_context() == CallContext()


def test_nothing_is_said_of_itself() -> None:
    assert current_call_context() == CallContext(conversation_id=None, user_id=None, tags={})


def test_a_block_says_it_and_its_end_takes_it_back() -> None:
    with call_context(conversation_id="c", user_id="u", tags={"team": "blue"}) as said:
        assert current_call_context() is said
        assert said == CallContext(conversation_id="c", user_id="u", tags={"team": "blue"})
    assert current_call_context() == CallContext()


def test_blocks_nest() -> None:
    with call_context(conversation_id="c", user_id="u", tags={"a": "1", "b": "1"}) as outer:
        with call_context(conversation_id="d", tags={"b": "2", "c": "2"}):
            assert current_call_context() == CallContext(
                conversation_id="d", user_id="u", tags={"a": "1", "b": "2", "c": "2"}
            )
        assert current_call_context() is outer
        assert outer.tags == {"a": "1", "b": "1"}


def test_an_exception_ends_a_block_too() -> None:
    with pytest.raises(ValueError, match="boom"), call_context(user_id="u"):
        raise ValueError("boom")
    assert current_call_context() == CallContext()


def test_tags_changed_later_change_nothing() -> None:
    tags = {"a": "1"}
    with call_context(tags=tags):
        tags["a"] = "2"
        assert current_call_context().tags == {"a": "1"}


def test_tasks_take_what_held_at_their_start_and_keep_theirs_apart() -> None:
    async def task(user: str, seen: dict[str, str | None], barrier: asyncio.Barrier) -> None:
        assert current_call_context().conversation_id == "c"
        with call_context(user_id=user):
            await barrier.wait()
            seen[user] = current_call_context().user_id
            await barrier.wait()
        assert current_call_context().user_id is None

    async def main() -> dict[str, str | None]:
        seen: dict[str, str | None] = {}
        barrier = asyncio.Barrier(3)
        with call_context(conversation_id="c"):
            async with asyncio.TaskGroup() as group:
                for user in ("x", "y", "z"):
                    group.create_task(task(user, seen, barrier))
            assert current_call_context().user_id is None
        return seen

    assert asyncio.run(main()) == {"x": "x", "y": "y", "z": "z"}


def test_trio_tasks_keep_theirs_apart_too() -> None:
    seen: dict[str, str | None] = {}

    async def task(user: str) -> None:
        with call_context(user_id=user):
            await trio.lowlevel.checkpoint()
            seen[user] = current_call_context().user_id

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for user in ("x", "y"):
                nursery.start_soon(task, user)

    trio.run(main)
    assert seen == {"x": "x", "y": "y"}


def test_a_thread_starts_with_nothing_said() -> None:
    seen: list[CallContext] = []
    with call_context(user_id="u"):
        # From 3.14 on a build may hand threads a copy; an empty context is the rule before it.
        empty = contextvars.Context()
        thread = threading.Thread(
            target=lambda: empty.run(lambda: seen.append(current_call_context()))
        )
        thread.start()
        thread.join()
    assert seen == [CallContext()]


def test_a_thread_given_a_copy_of_the_context_knows() -> None:
    async def main() -> CallContext:
        with call_context(user_id="u"):
            return await asyncio.to_thread(current_call_context)

    assert asyncio.run(main()).user_id == "u"
