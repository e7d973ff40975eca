"""What a caller says of its calls holds inside its block, in its own task and thread only."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

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


# --- blocks that end elsewhere ------------------------------------------------------------


def test_a_generator_may_be_closed_in_another_context() -> None:
    def answers() -> Iterator[str | None]:
        with call_context(user_id="u"):
            yield current_call_context().user_id

    stream = answers()
    assert contextvars.copy_context().run(next, stream) == "u"
    assert contextvars.copy_context().run(next, stream, "the end") == "the end"


def test_a_block_that_ends_in_a_task_does_not_hold_on_where_it_began() -> None:
    async def answers() -> AsyncIterator[str | None]:
        with call_context(user_id="u"):
            yield current_call_context().user_id

    async def main() -> None:
        stream = answers()
        assert await anext(stream) == "u"
        began_inside = asyncio.Event()

        async def task() -> str | None:
            await began_inside.wait()
            return current_call_context().user_id

        inner = asyncio.create_task(task())
        await asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]
        assert current_call_context() == CallContext()
        with call_context(conversation_id="c") as context:
            assert context == CallContext(conversation_id="c")
        began_inside.set()
        assert await inner == "u"

    asyncio.run(main())


def test_blocks_may_end_in_any_order() -> None:
    first, second = call_context(user_id="1", tags={"a": "1"}), call_context(user_id="2")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert current_call_context() == CallContext(user_id="2")
    second.__exit__(None, None, None)
    assert current_call_context() == CallContext()


def test_a_block_may_be_used_again_and_ended_twice() -> None:
    block = call_context(user_id="u")
    with block, block:
        pass
    assert current_call_context() == CallContext()
    with block:
        assert current_call_context().user_id == "u"
        thread = threading.Thread(target=block.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
        assert current_call_context() == CallContext()
    block.__exit__(None, None, None)


# --- a decorator --------------------------------------------------------------------------


def test_it_decorates_functions_and_coroutine_functions() -> None:
    @call_context(user_id="u")
    def function(value: int) -> tuple[int, str | None]:
        """Add."""
        return value, current_call_context().user_id

    @call_context(user_id="u")
    async def coroutine() -> str | None:
        await asyncio.sleep(0)
        return current_call_context().user_id

    class Asked:
        async def __call__(self) -> str | None:
            return current_call_context().user_id

    assert function(1) == (1, "u")
    assert function.__doc__ == "Add."
    assert inspect.iscoroutinefunction(coroutine)
    for each in (coroutine, functools.partial(coroutine), call_context(user_id="u")(Asked())):
        assert asyncio.run(each()) == "u"


def test_a_decorated_generator_has_the_context_in_each_step_and_its_caller_never() -> None:
    @call_context(user_id="u")
    def generator() -> Generator[Any, str, str]:
        try:
            sent = yield current_call_context()
            with call_context(tags={"inner": sent}):
                yield current_call_context()
                try:
                    yield current_call_context()
                except KeyboardInterrupt:
                    yield current_call_context()
            yield current_call_context()
            return "returned"
        finally:
            ended.append(current_call_context())

    ended: list[CallContext] = []
    own, inner = CallContext(user_id="u"), CallContext(user_id="u", tags={"inner": "x"})
    steps = generator()
    assert inspect.isgeneratorfunction(generator)
    assert next(steps) == own
    assert current_call_context() == CallContext()
    assert steps.send("x") == inner
    with call_context(conversation_id="c"):
        assert next(steps) == CallContext(conversation_id="c", user_id="u", tags={"inner": "x"})
        assert current_call_context() == CallContext(conversation_id="c")
    assert contextvars.Context().run(steps.throw, KeyboardInterrupt()) == inner
    assert next(steps) == own
    with pytest.raises(StopIteration, match="returned"):
        next(steps)
    assert ended == [own]
    steps = generator()
    next(steps)
    steps.close()
    assert ended == [own, own]


def test_a_decorated_async_generator_has_the_context_in_each_step_and_its_caller_never() -> None:
    @call_context(user_id="u")
    async def generator() -> AsyncIterator[str | None]:
        try:
            yield current_call_context().user_id
            await asyncio.sleep(0)
            try:
                yield current_call_context().user_id
            except KeyboardInterrupt:
                yield current_call_context().user_id
        finally:
            ended.append(current_call_context().user_id)

    ended: list[str | None] = []

    async def main() -> None:
        assert inspect.isasyncgenfunction(generator)
        assert [each async for each in generator()] == ["u", "u"]
        steps: Any = generator()
        assert await anext(steps) == "u"
        assert current_call_context() == CallContext()
        assert await anext(steps) == "u"
        assert await steps.athrow(KeyboardInterrupt()) == "u"
        await asyncio.create_task(steps.aclose())
        assert current_call_context() == CallContext()

    asyncio.run(main())
    assert ended == ["u", "u"]


# --- values that are not text -------------------------------------------------------------


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def test_values_that_are_not_text_lose_at_most_themselves() -> None:
    ident = uuid.uuid4()
    tags: Any = {
        3: "three",
        "n": 1,
        "none": None,
        "bad": _Unprintable(),
        "a": "1",
        "half": "\ud800",
    }
    given: Any = {"conversation_id": ident, "user_id": 7}
    with call_context(**given, tags=tags) as context:
        assert context == CallContext(
            conversation_id=str(ident),
            user_id="7",
            tags={"3": "three", "n": "1", "a": "1", "half": "?"},
        )
    bad: Any
    for bad in (5, "ab", ["ab", 3], object()):
        with call_context(user_id="u", tags=bad) as context:
            assert context.user_id == "u"


# --- bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["conversation_id", "user_id"])
def test_an_id_that_is_too_long_is_left_out_and_said_once(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ollama_otel.context._warned", set())
    with call_context(**{kind: "é" * 512}) as context:
        assert getattr(context, kind) == "é" * 512
    assert caplog.messages == []
    for number in range(3):
        # A part of an id would be the id of another.
        with call_context(**{kind: f"{'x' * 512}{number}"}) as context:
            assert context == CallContext()
    assert caplog.messages == [
        f"call_context expected as {kind} a text of at most 512 characters, found 513; "
        "it is left out"
    ]


def test_tags_are_bounded_in_length(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ollama_otel.context._warned", set())
    with call_context(tags={"n" * 512: "v" * 2048}) as context:
        assert context.tags == {"n" * 512: "v" * 2048}
    assert caplog.messages == []
    with call_context(tags={"n" * 513: "1", "long": "v" * 1_000_000, "a": "1"}) as context:
        assert context.tags.keys() == {"long", "a"}
        assert len(context.tags["long"]) <= 2048
        assert context.tags["long"].endswith(" characters]")
    assert len(caplog.messages) == 2
    assert not any("nnn" in message or "vvv" in message for message in caplog.messages)


@pytest.mark.slow
def test_tags_are_bounded_in_number_over_all_blocks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ollama_otel.context._warned", set())
    with call_context(tags={f"outer {number}": "1" for number in range(30)}):
        with call_context(tags={"outer 3": "2", "inner": "2", "last": "2"}) as context:
            assert len(context.tags) == 32
            assert (context.tags["outer 3"], context.tags["last"]) == ("2", "2")
        assert caplog.messages == []
        with call_context(tags={f"inner {number}": "1" for number in range(10_000)}) as context:
            assert [*context.tags][29:] == ["outer 29", "inner 0", "inner 1"]
        assert len(current_call_context().tags) == 30
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({"password": "hunter2"}, {"password": "[redacted: password]"}),
        ({"note": "password=hunter2secret"}, {"note": "password=[redacted: secret]"}),
        ({"owner": "ada@example.org"}, {"owner": "[redacted: email]"}),
        ({"team": "blue", "build": "1234"}, {"team": "blue", "build": "1234"}),
        ({"long": "x" * 2000 + " password: hunter2secret" + " y" * 9000}, None),
    ],
)
def test_secrets_in_tags_are_redacted(tags: dict[str, str], found: dict[str, str] | None) -> None:
    with call_context(tags=tags, user_id="ada@example.org") as context:
        assert context.user_id == "ada@example.org"
        assert found is None or context.tags == found
        assert "hunter2" not in str(context.tags)
