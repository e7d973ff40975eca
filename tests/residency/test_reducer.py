"""What follows from polls and calls, entry by entry, with values only."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel.residency import (
    Event,
    LoadedModel,
    ModelLoad,
    ModelReload,
    ModelUnload,
    ReloadThrash,
)
from ollama_otel.residency._history import History, ModelInfo
from ollama_otel.residency._reducer import advance, expects_load
from ollama_otel.residency._thrash import Thrash, advice
from ollama_otel.residency._timeline import (
    CallEnded,
    CallStarted,
    Entry,
    Poll,
    Refused,
    UnloadRequested,
    Unreachable,
)
from tests.examples import examples

from .simulation import OWN_CONTEXT, Asked, Server


class Story:
    """A timeline to which entries are added, at times given in seconds."""

    def __init__(self) -> None:
        self.history = History()

    def add(self, entry: Entry) -> list[Event]:
        after = advance(self.history, entry)
        self.history, self.info = after.history, after.info
        return list(after.events)

    def poll(self, at: float, *models: LoadedModel, took: float = 0.01) -> list[Event]:
        return self.add(Poll(models=models, sent_at=at, answered_at=at + took))

    def call(
        self,
        at: float,
        model: str = "a",
        *,
        load: float | None = 0.001,
        run: float = 0.1,
        keep_alive: float | None = None,
        **options: Any,
    ) -> tuple[ModelInfo, list[Event]]:
        """A whole call; one that loads takes `load` seconds for it."""
        started = self.start(at, model, keep_alive=keep_alive, **options)
        return self.end(started, load=load, run=run)

    def start(
        self, at: float, model: str = "a", *, keep_alive: float | None = None, **options: Any
    ) -> CallStarted:
        call = CallStarted(model=model, options=options, sent_at=at, keep_alive=keep_alive)
        assert self.add(call) == []
        return call

    def end(
        self, call: CallStarted, *, load: float | None = 0.001, run: float = 0.1, **more: Any
    ) -> tuple[ModelInfo, list[Event]]:
        total = None if load is None else load + run
        facts = {
            "ended_at": call.sent_at + (total or run),
            "was_served": True,
            "is_cold": load is not None and load >= 0.1,
            "load_duration": load,
            "total_duration": total,
        }
        events = self.add(CallEnded(call=call, **{**facts, **more}))
        return self.info, events


@pytest.fixture
def story() -> Story:
    return Story()


def listed(name: str = "a", context: int | None = 512, **more: Any) -> LoadedModel:
    facts = {"size": 100, "gpu_size": 25, "expires_in": 300.0, "context_length": context}
    return LoadedModel(name=f"{name}:latest", **{**facts, **more})


def reloads(events: list[Event]) -> list[tuple[Any, ...]]:
    return [
        (each.cause, each.before, each.after, each.evicted_by)
        for each in events
        if isinstance(each, ModelReload)
    ]


def unloads(events: list[Event]) -> list[tuple[str, str, str | None]]:
    return [
        (each.model, each.reason, each.evicted_by)
        for each in events
        if isinstance(each, ModelUnload)
    ]


def loads(events: list[Event]) -> list[str]:
    return [each.model for each in events if isinstance(each, ModelLoad)]


# --- loads -----------------------------------------------------------------------------------


def test_what_is_there_at_the_first_look_is_no_load(story: Story) -> None:
    assert story.poll(0, listed()) == []


def test_a_model_that_appears_was_loaded(story: Story) -> None:
    story.poll(0)
    assert story.poll(5, listed()) == [
        ModelLoad(model="a:latest", context_length=512, gpu_share=0.25)
    ]
    assert story.poll(10, listed()) == []


def test_a_cold_call_is_a_load_and_the_answer_that_lists_it_is_not_another(story: Story) -> None:
    story.poll(0)
    _, events = story.call(1, load=0.5)
    assert events == [ModelLoad(model="a:latest", load_duration=0.5)]
    assert story.poll(2, listed()) == []


def test_calls_that_wait_for_one_load_are_one_load(story: Story) -> None:
    calls = [story.start(at, num_ctx=512) for at in (1.0, 1.2, 1.5)]
    found = [story.end(call, load=2.0 - (call.sent_at - 1))[1] for call in calls]
    assert list(map(loads, found)) == [["a:latest"], [], []]


def test_a_load_that_was_listed_before_its_call_ended_is_one_load(story: Story) -> None:
    story.poll(0)
    call = story.start(1)
    assert story.poll(2, listed()) == []
    insight, events = story.end(call, load=0.5, run=3.0)
    assert loads(events) == ["a:latest"]
    assert insight == ModelInfo(gpu_share=0.25, size=100, gpu_size=25, context_length=512)
    assert story.poll(5, listed()) == []


def test_an_answer_older_than_a_load_does_not_end_it(story: Story) -> None:
    story.poll(0)
    call = story.start(1)
    story.poll(1.1)
    assert loads(story.end(call, load=0.5)[1]) == ["a:latest"]
    # Asked before the load, answered long after.
    assert story.poll(1.2, took=3.0) == []


def test_the_name_may_be_spelt_in_several_ways(story: Story) -> None:
    story.poll(0)
    for name in ("A", "a:latest", "registry.ollama.ai/library/a", "library/a"):
        story.call(1 if name == "A" else 2, name, load=0.5 if name == "A" else 0.001)
    assert story.poll(3, listed()) == []


def test_a_load_for_an_empty_prompt_is_foundby_the_answer_that_lists_it(story: Story) -> None:
    story.poll(0)
    assert story.call(1, load=None, run=0.6, num_ctx=512)[1] == []
    assert loads(story.poll(2, listed())) == ["a:latest"]
    # It is known for which options it was loaded.
    assert reloads(story.call(3, load=0.5, num_ctx=512, num_gpu=0)[1]) == [
        ("num_gpu", None, 0, None)
    ]


def test_a_stream_left_early_counts_once(story: Story) -> None:
    story.poll(0)
    call = story.start(1)
    story.end(call, load=None, run=0.3)
    assert loads(story.poll(2, listed())) == ["a:latest"]
    assert story.call(3)[1] == []


# --- why a model went -------------------------------------------------------------------------


def test_gone_after_its_time_is_expired(story: Story) -> None:
    story.poll(0, listed(expires_in=3.0))
    assert unloads(story.poll(5)) == [("a:latest", "expired", None)]
    assert reloads(story.call(6, load=0.5)[1]) == [("expired", None, None, None)]


def test_gone_before_its_time_while_another_came_is_evicted_by_that(story: Story) -> None:
    story.poll(0, listed("a"))
    assert unloads(story.poll(5, listed("b"))) == [("a:latest", "evicted", "b:latest")]
    assert reloads(story.call(6, "a", load=0.5)[1]) == [("evicted", None, None, "b:latest")]


def test_the_one_that_evicted_is_listed_only_when_it_is_loaded(story: Story) -> None:
    story.poll(0, listed("a"))
    assert unloads(story.poll(5)) == []
    assert unloads(story.poll(10, listed("b"))) == [("a:latest", "evicted", "b:latest")]


def test_gone_before_its_time_for_no_reason_in_sight_is_unknown(story: Story) -> None:
    story.poll(0, listed("a"))
    assert unloads(story.poll(5)) == []
    assert unloads(story.poll(50)) == [("a:latest", "unknown", None)]
    assert reloads(story.call(60, load=0.5)[1]) == [("unknown", None, None, None)]


def test_of_two_that_came_nobody_knows_which_it_was(story: Story) -> None:
    story.poll(0, listed("a"))
    story.call(1, "b", load=0.5)
    story.call(2, "c", load=0.5)
    assert unloads(story.poll(5, listed("b"), listed("c"))) == [("a:latest", "evicted", None)]


def test_a_model_that_stays_does_not_expire(story: Story) -> None:
    story.poll(0, listed("a", expires_in=None, stays=True))
    assert unloads(story.poll(100_000, listed("b"))) == [("a:latest", "evicted", "b:latest")]


def test_a_model_at_work_shows_a_time_that_is_past_and_is_not_expired(story: Story) -> None:
    story.poll(0, listed("a"))
    story.poll(5, listed("a", expires_in=0.0))
    assert unloads(story.poll(10, listed("b"))) == [("a:latest", "evicted", "b:latest")]


def test_asked_to_go_is_requested(story: Story) -> None:
    story.poll(0, listed())
    story.add(UnloadRequested(model="a"))
    assert unloads(story.poll(1)) == [("a:latest", "requested", None)]
    assert reloads(story.call(2, load=0.5)[1]) == [("requested", None, None, None)]


def test_a_keep_alive_of_zero_is_a_request_to_go(story: Story) -> None:
    story.poll(0)
    story.call(1, load=0.5, keep_alive=0)
    assert reloads(story.call(3, load=0.5)[1]) == [("requested", None, None, None)]


@pytest.mark.parametrize("load", [0.001, None])
def test_a_stay_that_no_poll_has_seen_is_a_stay(story: Story, load: float | None) -> None:
    """The model was in memory at the first call, and gone before the first poll."""
    story.call(1, load=load, keep_alive=0)
    assert story.poll(1.2) == []
    info, events = story.call(3, load=0.5)
    assert reloads(events) == [("requested", None, None, None)]
    assert info.reload is not None
    assert info.reload.cause == "requested"


def test_a_load_after_an_unseen_stay_has_a_cause(story: Story) -> None:
    story.call(1)
    assert reloads(story.call(60, load=0.5)[1]) == [("unknown", None, None, None)]
    story.call(70, "b", keep_alive=5.0)
    assert reloads(story.call(80, "b", load=0.5)[1]) == [("expired", None, None, None)]


def test_a_stay_that_no_poll_has_seen_and_another_client_ended_has_a_cause(story: Story) -> None:
    story.poll(0)
    story.call(1)
    story.poll(5)
    assert reloads(story.poll(10, listed())) == [("unknown", None, None, None)]
    story.call(20, "b")
    # The first poll that lists it says nothing of a load after that call.
    assert reloads(story.poll(21, listed(), listed("b"))) == []


def test_a_warm_call_after_an_unload_began_another_stay(story: Story) -> None:
    """Why the model left before explains nothing: somebody has loaded it since."""
    story.poll(0, listed())
    story.add(UnloadRequested(model="a"))
    assert unloads(story.poll(1)) == [("a:latest", "requested", None)]
    story.call(10)
    assert reloads(story.call(20, load=0.5)[1]) == [("unknown", None, None, None)]


def test_a_stay_that_a_call_shows_before_a_poll_does_is_one_reload(story: Story) -> None:
    """Each load but the first is a reload, with the reason why the model had left."""
    story.poll(0, listed())
    story.add(UnloadRequested(model="a"))
    story.poll(1)
    story.call(10)
    assert reloads(story.poll(11, listed())) == [("requested", None, None, None)]
    assert reloads(story.poll(12, listed())) == []


def test_a_call_that_joined_a_load_is_no_earlier_stay(story: Story) -> None:
    first = story.start(1)
    story.call(1.5, run=0.5)
    assert reloads(story.end(first, load=0.5, run=2.0)[1]) == []


def test_with_the_server_all_models_go(story: Story) -> None:
    story.poll(0, listed("a"), listed("b", expires_in=2.0))
    assert unloads(story.add(Refused(at=5))) == [
        ("a:latest", "server_down", None),
        ("b:latest", "expired", None),
    ]
    assert reloads(story.poll(10, listed("a"))) == [("server_down", None, None, None)]


def test_a_server_out_of_reach_may_have_kept_its_models(story: Story) -> None:
    story.poll(0, listed("a"))
    assert story.add(Unreachable(at=5)) == []
    assert story.poll(10, listed("a")) == []
    assert story.add(Unreachable(at=15)) == []
    assert unloads(story.poll(20)) == [("a:latest", "server_down", None)]


# --- why a model came again -------------------------------------------------------------------


def test_an_option_that_changes_is_named_with_its_values(story: Story) -> None:
    story.poll(0)
    story.call(1, load=0.5, num_ctx=512)
    story.poll(2, listed(context=512))
    insight, events = story.call(3, load=0.5, num_ctx=1024)
    assert unloads(events) == [("a:latest", "reloaded", None)]
    assert reloads(events) == [("num_ctx", 512, 1024, None)]
    assert insight.reload is not None
    assert insight.reload.cause == "num_ctx"


def test_every_call_that_waited_for_a_reload_has_its_cause(story: Story) -> None:
    story.poll(0, listed(context=512))
    first, second = story.start(1, num_ctx=1024), story.start(1.1, num_ctx=1024)
    insights = [story.end(first, load=0.5)[0], story.end(second, load=0.4)[0]]
    assert [each.reload and each.reload.cause for each in insights] == ["num_ctx", "num_ctx"]


def test_another_client_that_changes_the_context_is_seen(story: Story) -> None:
    story.poll(0, listed(context=512))
    assert reloads(story.poll(5, listed(context=2048))) == [("num_ctx", 512, 2048, None)]


def test_seen_away_while_it_is_loaded_anew_is_no_eviction(story: Story) -> None:
    story.poll(0, listed("a", context=512), listed("b"))
    call = story.start(1, num_ctx=1024)
    assert story.poll(1.2, listed("b")) == []
    assert reloads(story.end(call, load=0.5)[1]) == [("num_ctx", 512, 1024, None)]


def test_without_a_look_between_the_other_models_load_is_the_evidence(story: Story) -> None:
    story.poll(0, listed("a"))
    story.call(1, "a")
    story.call(2, "b", load=0.5)
    assert reloads(story.call(3, "a", load=0.5)[1]) == [("evicted", None, None, "b:latest")]


def test_a_changed_option_and_another_load_leave_it_open(story: Story) -> None:
    story.poll(0, listed("a", context=512))
    story.call(1, "b", load=0.5)
    assert reloads(story.call(3, "a", load=0.5, num_ctx=1024)[1]) == [("unknown", None, None, None)]


def test_both_seen_after_the_other_load_it_was_the_option(story: Story) -> None:
    story.poll(0, listed("a", context=512))
    story.call(1, "b", load=0.5)
    story.poll(2, listed("a", context=512), listed("b"))
    assert reloads(story.call(3, "a", load=0.5, num_ctx=1024)[1]) == [("num_ctx", 512, 1024, None)]


def test_an_engine_that_died_is_the_cause(story: Story) -> None:
    story.poll(0, listed())
    story.end(story.start(1), load=None, was_served=False, has_crashed=True)
    events = story.call(2, load=0.5)[1]
    assert reloads(events) == [("runner_crashed", None, None, None)]
    assert unloads(events) == [("a:latest", "reloaded", None)]
    # The engine is a new one now.
    assert reloads(story.call(3, load=0.5, num_ctx=8)[1]) == [("num_ctx", None, 8, None)]


def test_an_engine_that_died_before_its_load_was_seen_is_the_cause_all_the_same(
    story: Story,
) -> None:
    story.poll(0)
    call = story.start(1)
    story.poll(2, listed())
    story.end(call, load=None, run=2.0, was_served=False, has_crashed=True)
    # The server lists it until somebody asks for it.
    story.poll(4, listed())
    assert reloads(story.call(5, load=0.5)[1]) == [("runner_crashed", None, None, None)]


def test_a_reload_for_no_reason_in_sight_is_unknown(story: Story) -> None:
    story.poll(0, listed())
    assert reloads(story.call(1, load=0.5)[1]) == [("unknown", None, None, None)]


def test_one_that_is_seen_again_with_another_context_was_loaded_anew(story: Story) -> None:
    story.poll(0, listed(context=512))
    story.poll(5)
    events = story.poll(10, listed(context=1024))
    assert reloads(events) == [("num_ctx", 512, 1024, None)]
    assert unloads(events) == [("a:latest", "reloaded", None)]


def test_one_that_is_seen_again_after_it_was_evicted_tells_by_whom(story: Story) -> None:
    story.poll(0, listed("a"))
    story.poll(5, listed("b"))
    assert reloads(story.poll(10, listed("a"))) == [("evicted", None, None, "b:latest")]


def test_one_that_is_seen_again_as_it_was_is_a_riddle(story: Story) -> None:
    story.poll(0, listed())
    story.poll(5)
    assert reloads(story.poll(10, listed())) == [("unknown", None, None, None)]


def test_one_that_is_seen_again_after_it_left_for_an_unknown_reason_came_for_one(
    story: Story,
) -> None:
    story.poll(0, listed())
    story.poll(5)
    assert unloads(story.poll(50)) == [("a:latest", "unknown", None)]
    assert reloads(story.poll(60, listed(context=1024))) == [("unknown", None, None, None)]


@pytest.mark.parametrize("has_begun", [True, False])
def test_an_engine_that_died_in_the_first_call_of_all_was_loaded_if_it_began_to_answer(
    story: Story, has_begun: bool
) -> None:
    crash = {"was_served": False, "has_crashed": True, "has_begun": has_begun}
    assert story.end(story.start(1), load=None, **crash)[1] == []
    expected = [("runner_crashed", None, None, None)] if has_begun else []
    assert reloads(story.call(2, load=0.5)[1]) == expected


def test_one_that_is_seen_again_after_its_engine_died_was_loaded_for_that(story: Story) -> None:
    story.poll(0, listed())
    story.end(story.start(1), load=None, was_served=False, has_crashed=True)
    story.poll(5)
    assert reloads(story.poll(10, listed())) == [("runner_crashed", None, None, None)]


def test_a_warm_call_without_the_option_keeps_the_value_it_was_loaded_with(story: Story) -> None:
    story.poll(0)
    story.call(1, load=0.5, num_ctx=512)
    story.call(2)
    assert reloads(story.call(3, load=0.5, num_ctx=1024)[1]) == [("num_ctx", 512, 1024, None)]


def test_what_left_before_the_server_did_is_not_its_fault(story: Story) -> None:
    story.poll(0, listed())
    story.poll(5)
    assert unloads(story.add(Refused(at=10))) == [("a:latest", "unknown", None)]


# --- what is known of the model that served ----------------------------------------------------


def test_a_warm_call_knows_what_was_last_listed(story: Story) -> None:
    story.poll(0, listed(context=512))
    assert story.call(1)[0] == ModelInfo(gpu_share=0.25, size=100, gpu_size=25, context_length=512)


def test_what_was_listed_before_a_reload_says_nothing_of_it(story: Story) -> None:
    story.poll(0, listed(context=512))
    insight, _ = story.call(1, load=0.5, num_ctx=1024)
    assert (insight.gpu_share, insight.context_length) == (None, None)


def test_a_listed_context_that_was_not_asked_for_is_another_load(story: Story) -> None:
    story.poll(0, listed(context=512))
    assert story.call(1, num_ctx=1024)[0] == ModelInfo()


def test_a_server_that_lists_no_context_length_still_tells_the_share(story: Story) -> None:
    story.poll(0, listed(context=None))
    assert story.call(1)[0] == ModelInfo(gpu_share=0.25, size=100, gpu_size=25)


def test_a_model_that_runs_under_another_name_is_not_said_to_be_gone(story: Story) -> None:
    story.poll(0)
    call = story.start(1, "alias")
    story.poll(2, listed("a"))
    events = story.end(call, load=0.5, run=3.0)[1]
    assert loads(events) == ["alias:latest", "a:latest"] or loads(events) == ["alias:latest"]
    assert unloads(story.poll(10, listed("a"))) == []
    assert not expects_load(story.history, story.start(11, "alias"))


def test_a_model_of_another_machine_does_not_make_us_look_for_ever(story: Story) -> None:
    story.poll(0)
    expects = []
    for at in range(1, 6):
        call = story.start(at, "cloud")
        expects.append(expects_load(story.history, call))
        story.end(call, load=None)
        story.poll(at + 0.5)
    assert expects == [True, True, True, False, False]


# --- thrash ------------------------------------------------------------------------------------


def thrash(events: list[Event]) -> list[ReloadThrash]:
    return [each for each in events if isinstance(each, ReloadThrash)]


def test_three_reloads_within_five_minutes_are_thrash_and_foundonce(story: Story) -> None:
    story.poll(0)
    found: list[Event] = []
    for number in range(20):
        found += story.call(1 + number, load=0.5, num_ctx=512 * (1 + number % 2))[1]
        story.poll(1.8 + number, listed(context=512 * (1 + number % 2)))
    (told,) = thrash(found)
    assert told.count == 3
    assert (told.reload.cause, told.reload.before, told.reload.after) == ("num_ctx", 512, 1024)


def test_two_models_that_push_each_other_out_are_one_story(story: Story) -> None:
    story.poll(0, listed("a"))
    found: list[Event] = []
    for number in range(10):
        name = "ba"[number % 2]
        found += story.call(1 + number, name, load=0.5)[1]
        found += story.poll(1.8 + number, listed(name))
    assert len(thrash(found)) == 1


def test_reloads_far_apart_are_no_thrash_and_neither_are_those_that_expired(story: Story) -> None:
    story.poll(0)
    found: list[Event] = []
    for number in range(10):
        at = 200.0 * number
        found += story.call(at + 1, load=0.5, num_ctx=512 * (1 + number % 2))[1]
        found += story.poll(at + 2, listed(context=512 * (1 + number % 2)))
    for number in range(10):
        found += story.call(3000 + number, load=0.5, keep_alive=0.2)[1]
    assert {cause for cause, *_ in reloads(found)} >= {"num_ctx", "expired"}
    assert thrash(found) == []


def test_a_reload_that_is_learned_late_is_counted_where_it_belongs() -> None:
    reload, thrash = ModelReload(model="a:latest", cause="num_ctx"), Thrash()
    for at in (100, 50, 360, 361):
        thrash, found = thrash.reloaded(reload, at)
    assert found == ReloadThrash(reload=reload, count=3)


def test_the_advice_names_the_models_that_push_each_other_out() -> None:
    reload = ModelReload(model="a:latest", cause="evicted", evicted_by="b:latest")
    text = advice(ReloadThrash(reload=reload, count=3), "http://h:1")
    assert text.startswith("a:latest and b:latest evict each other from memory: 3 reloads")


def test_after_five_minutes_it_is_foundagain(story: Story) -> None:
    story.poll(0)
    found: list[Event] = []
    for number in range(80):
        at = 5.0 * number
        found += story.call(at + 1, load=0.5, num_ctx=512 * (1 + number % 2))[1]
        story.poll(at + 2, listed(context=512 * (1 + number % 2)))
    assert len(thrash(found)) == 2


# --- bounds ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hundred_thousand_calls_to_as_many_models_leave_little_behind(story: Story) -> None:
    story.poll(0)
    for number in range(100_000):
        story.call(float(number), f"m{number}", load=0.5)
        if number % 1000 == 0:
            story.poll(number + 0.7)
    history = story.history
    assert len(history.models) <= 1000
    assert len(history.arrivals) <= 256
    assert history.calls == {}


def test_poll_rows_are_bounded_while_a_call_lasts(story: Story) -> None:
    story.poll(0, listed())
    story.start(1)
    for at in range(2, 1000):
        story.poll(at, listed())
    (model,) = story.history.models.values()
    assert len(model.rows) <= 32


def test_calls_of_a_model_that_was_forgotten_are_forgotten_too(story: Story) -> None:
    calls = [story.start(number, f"m{number}") for number in range(1001)]
    assert len(story.history.calls) == 1000
    assert loads(story.end(calls[0], load=0.5)[1]) == ["m0:latest"]
    assert len(story.history.models) == 1000


def test_an_entry_leaves_the_history_before_it_as_it_was(story: Story) -> None:
    def told(entry: Entry, history: History) -> tuple[list[Event], str]:
        after = advance(history, entry)
        return list(after.events), repr(after.history)

    story.poll(0, listed(context=512), listed("b"))
    call = story.start(1, num_ctx=1024)
    story.poll(2, listed("b"))
    before = story.history
    end = CallEnded(
        call=call, ended_at=3, was_served=True, is_cold=True, load_duration=1, total_duration=2
    )
    for entry in (
        CallStarted(model="b", options={}, sent_at=4),
        end,
        Poll(models=(), sent_at=4, answered_at=5),
        UnloadRequested(model="b"),
        Unreachable(at=4),
        Refused(at=4),
    ):
        was = repr(before)
        first = told(entry, before)
        assert repr(before) == was
        assert told(entry, before) == first
        assert first[1] != was


# --- against a server that is imagined ----------------------------------------------------------


def live(
    server: Server, requests: list[Asked], polls: list[tuple[float, float]]
) -> list[tuple[float, Event]]:
    """Put everything on a timeline, in the order in which it is learned."""
    feed: list[tuple[float, int, Any]] = []
    for asked in requests:
        feed += [(asked.sent, 0, asked), (asked.end + 0.0005, 1, asked)]
    last = -1.0
    for sent_at, took in sorted(polls):
        # One question after the other.
        if sent_at > last:
            last = sent_at + took
            feed.append((last, 2, sent_at))
    story, calls, events = Story(), {}, []
    for at, kind, what in sorted(feed, key=lambda each: each[:2]):
        entry: Entry
        if kind == 0:
            entry = calls[id(what)] = what.started()
        elif kind == 1:
            entry = what.ended(calls[id(what)])
        else:
            entry = Poll(models=server.listed(what), sent_at=what, answered_at=at)
        events += [(at, event) for event in story.add(entry)]
    return events


def clients_at_work(server: Server, requests: list[Asked], pauses: list[float], count: int) -> None:
    """Let some clients make the requests, each of them one after the other."""
    free = [(0.5 + number / 7, number) for number in range(count)]
    for asked, pause in zip(requests, pauses, strict=True):
        asked.sent, number = heapq.heappop(free)
        server._serve(asked)
        heapq.heappush(free, (asked.end + pause, number))
    server._expire(math.inf)


def looks(until: float, every: float, seed: int) -> list[tuple[float, float]]:
    chance, at, found = random.Random(seed), 0.0, []
    while at < until:
        found.append((at, 0.01 * chance.random()))
        at += every * (0.5 + chance.random())
    return found


def causes(server: Server, events: list[tuple[float, Event]]) -> Counter[str]:
    """How many of the causes told are right, unknown and wrong."""
    stays: dict[str, list[Any]] = {}
    for stay in server.stays:
        stays.setdefault(stay.model, []).append(stay)
    seen: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for _, event in events:
        if not isinstance(event, ModelReload):
            continue
        before, after = stays[event.model][seen[event.model] :][:2]
        seen[event.model] += 1
        is_right = event.cause == before.reason
        if event.cause == "num_ctx":
            is_right &= event.before in {None, before.context}
            is_right &= event.after in {None, after.context}
        if event.cause == "evicted":
            is_right &= event.evicted_by in {None, before.by}
        # One that is to go at once goes for that, whoever else wants its place.
        is_right |= before.keep == 0 and event.cause in {"requested", "expired"}
        found["unknown" if event.cause == "unknown" else "right" if is_right else "wrong"] += 1
    return found


REQUESTS = st.lists(
    st.builds(
        Asked,
        sent=st.just(0.0),
        model=st.sampled_from(sorted(OWN_CONTEXT)),
        context=st.sampled_from([None, None, 512, 1024, 2048]),
        keep_alive=st.sampled_from([None, None, None, 1.0, 10.0, 0.0]),
        run=st.sampled_from([0.01, 0.1, 0.5, 2.0]),
    ),
    min_size=1,
    max_size=20,
)


@pytest.mark.slow
@settings(max_examples=examples(200))
@given(
    requests=REQUESTS,
    places=st.integers(1, 3),
    pause=st.sampled_from([0.001, 0.05, 0.5, 3.0]),
    every=st.sampled_from([0.1, 0.5, 2.0, 5.0]),
    seed=st.integers(0, 1000),
)
def test_of_one_client_every_load_is_counted_and_no_cause_is_wrong(
    requests: list[Asked], places: int, pause: float, every: float, seed: int
) -> None:
    server = Server(places=places)
    clients_at_work(server, requests, [pause] * len(requests), 1)
    polls = looks(max(each.end for each in requests) + 12, every, seed)
    # As the watcher does: a look after each cold call.
    polls += [(each.end + 0.02, 0.005) for each in requests if each.ready - each.sent > 0.1]
    events = live(server, requests, polls)
    told = Counter(event.model for _, event in events if isinstance(event, ModelLoad))
    gone = Counter(event.model for _, event in events if isinstance(event, ModelUnload))
    assert told == Counter(stay.model for stay in server.stays)
    assert gone <= told
    assert causes(server, events)["wrong"] == 0


@pytest.mark.slow
def test_of_several_clients_every_load_is_counted_and_hardly_a_cause_is_wrong() -> None:
    found: Counter[str] = Counter()
    for seed in range(300):
        chance = random.Random(seed)
        server = Server(places=chance.choice([1, 1, 2, 3]))
        requests = [
            Asked(
                sent=0,
                model=chance.choice(sorted(OWN_CONTEXT)[: 1 + seed % 4]),
                context=chance.choice([None, None, 512, 1024]),
                keep_alive=chance.choice([None, None, None, None, 1.0, 10.0, 0.0]),
                run=chance.choice([0.01, 0.1, 0.5, 2.0]),
            )
            for _ in range(10)
        ]
        pauses = [chance.choice([0.001, 0.02, 0.2, 1.5, 6.0]) for _ in requests]
        clients_at_work(server, requests, pauses, 1 + seed % 3)
        polls = looks(max(each.end for each in requests) + 12, chance.choice([0.5, 5.0]), seed)
        polls += [(each.end + 0.02, 0.005) for each in requests if each.ready - each.sent > 0.1]
        events = live(server, requests, polls)
        told = Counter(event.model for _, event in events if isinstance(event, ModelLoad))
        assert told == Counter(stay.model for stay in server.stays), seed
        found += causes(server, events)
    assert found["wrong"] <= 0.005 * found.total(), found
    assert found["right"] >= 0.8 * found.total(), found
