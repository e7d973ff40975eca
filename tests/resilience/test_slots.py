"""The limits of one server by values: never more than the limit, fair, without starvation, no slot lost."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ollama_otel._resilience.fair_queue import FairQueue
from ollama_otel._resilience.slots import Call, Limits, Slots
from ollama_otel._resilience.window import Window
from tests.examples import examples


def limits(**changes: Any) -> Limits:
    return Limits(
        **{
            "concurrency": 1,
            "requests_per_minute": None,
            "tokens_per_minute": None,
            "max_waiting": 100_000,
            "max_wait": 1e9,
            "ageing": 0.02,
            "memory": 60.0,
        }
        | changes
    )


class Work:
    """Slots, a clock, and a server on which each call takes a given time."""

    def __init__(self, **changes: Any) -> None:
        self.slots = Slots(limits(**changes))
        self.now = 0.0
        self.served: list[str] = []
        self.calls: dict[Call, None] = {}

    def enter(self, key: str) -> Call:
        call = self.slots.enter(key, self.now, 1e9)
        self.calls[call] = None
        if call.state == "granted":
            self.active = call
        return call

    def run(self, took: float = 1.0) -> None:
        """Let the active call end, and the next one begin."""
        self.now += took
        active = self.active
        self.served.append(active.ticket.key)
        del self.calls[active]
        self.slots.release(active, self.now)
        self.active = next((c for c in self.slots.changed if c.state == "granted"), active)
        self.slots.changed.clear()


# --- fairness ---------------------------------------------------------------------------------


def test_calls_of_one_key_are_served_in_their_order() -> None:
    work = Work()
    calls = [work.enter("a") for _ in range(50)]
    for number, call in enumerate(calls):
        assert call.state == "granted"
        # Shorter than expected: what the key has used is corrected, and later calls come in.
        work.run(took=0.1)
        if number < 5:
            calls.append(work.enter("a"))


def test_a_user_with_one_call_does_not_wait_for_a_user_with_ten_thousand() -> None:
    work = Work()
    for _ in range(10_000):
        work.enter("batch")
    for _ in range(100):
        work.run()
    work.enter("ada")
    for _ in range(5):
        work.run()
    assert "ada" in work.served[-4:]


def test_users_with_as_many_calls_are_served_in_turn() -> None:
    work = Work()
    for _ in range(20):
        work.enter("a")
    for key in "bc":
        for _ in range(20):
            work.enter(key)
    for _ in range(60):
        work.run()
    for end in range(6, 58, 3):
        count = Counter(work.served[:end])
        assert max(count.values()) - min(count.values()) <= 2, work.served


def test_a_user_whose_calls_are_long_gets_as_much_time_and_not_as_many_calls() -> None:
    work = Work()
    for key in "aabb":
        work.enter(key)
    spent: Counter[str] = Counter()
    while sum(spent.values()) < 600:
        active = work.active
        took = 4.0 if active.ticket.key == "a" else 1.0
        spent[active.ticket.key] += int(took)
        work.run(took)
        # The user goes on as long as there is an answer.
        work.enter(active.ticket.key)
    assert spent["b"] > 0.5 * spent["a"], spent


def test_recent_use_counts_and_is_forgotten() -> None:
    queue = FairQueue(ageing=0.02, half_life=60.0)
    for _ in range(5):
        queue.ticket("a", 1.0, now=0.0)
    assert queue.ticket("a", 1.0, now=1.0).tag > queue.ticket("b", 1.0, now=1.0).tag + 4
    later = queue.ticket("a", 1.0, now=3600.0)
    assert later.start == pytest.approx(0.0, abs=1e-9)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0.5, 3.0))
@settings(max_examples=examples(60))
def test_no_call_waits_for_ever_whatever_others_do(arrivals: list[int], took: float) -> None:
    """New keys, each with recent use of nothing, arrive faster than they are served."""
    work = Work()
    work.enter("first")
    for _ in range(5):
        work.enter("heavy")
    waiting = list(work.calls)[-1]
    # By ageing, a lead of five seconds is made up for in 5 s / 0.02; then those are served that
    # arrived until then, at most four each turn.
    most_turns = 4 * int(5 / 0.02 / took + 10)
    for turn in range(most_turns):
        for number in range(arrivals[turn % len(arrivals)] + 1):
            work.enter(f"new {turn} {number}")
        work.run(took)
        if waiting.state != "waiting":
            break
    assert waiting.state == "granted"


def test_ageing_is_what_prevents_starvation() -> None:
    """The same as above with next to no ageing: the test can go red."""
    work = Work(ageing=1e-9)
    work.enter("first")
    for _ in range(5):
        work.enter("heavy")
    waiting = list(work.calls)[-1]
    for turn in range(1000):
        work.enter(f"new {turn} a")
        work.enter(f"new {turn} b")
        work.run()
    assert waiting.state == "waiting"


# --- a full queue -----------------------------------------------------------------------------


def test_a_full_queue_rejects_the_call_that_would_be_served_last() -> None:
    work = Work(max_waiting=3)
    batch = [work.enter("batch") for _ in range(5)]
    assert [call.state for call in batch] == ["granted", *["waiting"] * 3, "queue_full"]
    ada = work.enter("ada")
    assert ada.state == "waiting"
    assert batch[3].state == "queue_full"
    assert work.slots.changed == [batch[3]]
    assert work.slots.waiting == 3


def test_without_a_queue_a_call_is_sent_or_rejected() -> None:
    work = Work(max_waiting=0)
    assert [work.enter("a").state for _ in range(2)] == ["granted", "queue_full"]


# --- rates ------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=100), st.integers(1, 5))
def test_never_more_requests_than_the_rate_in_any_minute(gaps: list[float], most: int) -> None:
    slots, now, sent = Slots(limits(concurrency=None, requests_per_minute=most)), 0.0, list[float]()
    waiting: list[Call] = []

    def look() -> None:
        for call in waiting:
            if call.look_at is not None and now >= call.look_at:
                slots.look(now)
        for call in list(waiting):
            if call.state == "granted":
                sent.append(now)
                waiting.remove(call)

    for gap in gaps:
        now += gap
        look()
        waiting.append(slots.enter("a", now, 1e9))
        look()
    while waiting:
        now = min(call.look_at for call in waiting if call.look_at is not None)
        look()
    assert len(sent) == len(gaps)
    for at in sent:
        assert sum(at <= other < at + 60.0 for other in sent) <= most


def test_tokens_of_the_last_minute_hold_the_next_call_back() -> None:
    slots = Slots(limits(concurrency=None, tokens_per_minute=100))
    first = slots.enter("a", 0.0, 1e9)
    assert slots.enter("a", 0.0, 1e9).state == "granted", "its tokens are not known yet"
    slots.release(first, 1.0)
    slots.settle(150, 1.0)
    second = slots.enter("a", 2.0, 1e9)
    assert (second.state, second.look_at) == ("waiting", 61.0)
    slots.look(60.9)
    assert second.state == "waiting"
    slots.look(61.0)
    assert second.state == "granted"


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), max_size=50))
def test_a_window_says_when_it_is_below_its_limit(uses: list[tuple[float, int]]) -> None:
    window, now = Window(60), 0.0
    for gap, amount in uses:
        now += gap
        window.add(amount, now)
    at = window.free_at(now)
    assert at >= now
    assert window.used(at) < 60
    if at > now:
        entries = [(t, a) for t, a in _times(uses) if t + 60 > math.nextafter(at, 0)]
        assert sum(amount for _, amount in entries) >= 60


def _times(uses: list[tuple[float, int]]) -> list[tuple[float, int]]:
    now, found = 0.0, []
    for gap, amount in uses:
        now += gap
        found.append((now, amount))
    return found


# --- no slot is lost --------------------------------------------------------------------------


class Conservation(RuleBasedStateMachine):
    """Calls arrive, end, leave and time out in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(limits(concurrency=3, max_waiting=5, requests_per_minute=20))
        self.now = 0.0
        self.calls: list[Call] = []

    def of(self, state: str) -> list[Call]:
        return [call for call in self.calls if call.state == state]

    @rule(key=st.sampled_from("abc"), gap=st.floats(0, 5))
    def arrives(self, key: str, gap: float) -> None:
        self.now += gap
        self.calls.append(self.slots.enter(key, self.now, 1e9))

    @precondition(lambda self: self.of("granted"))
    @rule(data=st.data(), gap=st.floats(0, 5))
    def ends(self, data: st.DataObject, gap: float) -> None:
        self.now += gap
        self.slots.release(data.draw(st.sampled_from(self.of("granted"))), self.now)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        """Also one that has left or ended before: only the first time counts."""
        self.slots.leave(data.draw(st.sampled_from(self.calls)), self.now)

    @rule(gap=st.floats(0, 70))
    def time_passes(self, gap: float) -> None:
        self.now += gap
        self.slots.look(self.now)

    @invariant()
    def the_counts_are_those_of_the_calls(self) -> None:
        assert self.slots.active == len(self.of("granted")) <= 3
        assert self.slots.waiting == len(self.of("waiting")) <= 5
        assert self.slots.queued() == sorted(self.of("waiting"), key=lambda call: call.ticket.tag)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        waiting = self.slots.queued()
        if waiting and self.slots.active < 3:
            assert waiting[0].look_at is not None, "a rate holds it back, and it knows until when"


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=examples(60), stateful_step_count=60)


# --- many calls -------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_thousand_calls_that_leave_do_not_stay_in_memory() -> None:
    work = Work()
    calls = [work.enter(f"user {number % 100}") for number in range(10_000)]
    for call in calls[:0:-1]:
        work.slots.leave(call, work.now)
    queue = work.slots._queue
    assert work.slots.waiting == 0
    assert len(queue._first) + len(queue._last) < 300
    assert not work.slots._calls


@pytest.mark.slow
def test_keys_are_forgotten() -> None:
    work = Work()
    for number in range(20_000):
        work.enter(f"user {number}")
        work.run(took=0.1)
    assert len(work.slots._queue._uses) < 12_000


@pytest.mark.slow
def test_the_cost_of_a_change_grows_with_the_logarithm() -> None:
    """By a ratio: 64 times as many calls cost less than 16 times as much each."""

    def cost(count: int) -> float:
        work = Work()
        calls = [work.enter(f"user {number % 1000}") for number in range(count)]
        began = time.perf_counter()
        for call in calls:
            work.slots.release(call, 1.0)
        return (time.perf_counter() - began) / count

    few = min(cost(500) for _ in range(5))
    many = min(cost(32_000) for _ in range(2))
    assert many < 16 * few
