"""What the state shows: from events, answers of /api/ps and scrapes, with a clock of its own."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from ollama_otel._top.readings import LogReading, PsReading, Scrape, ScrapedModel
from ollama_otel._top.state import KEPT_CALLS, State
from ollama_otel._top.view import ModelRow, values_of
from ollama_otel._wire.ps import LoadedModel

from .events import NOW, SERVER, begins, call, ends, state_of

ONE = (SERVER, "m:latest")


def only_model(state: State, at: float = 0.0) -> ModelRow:
    (row,) = state.view(NOW + at).models
    return row


def ps(*models: LoadedModel) -> PsReading:
    return PsReading(server=SERVER, at=NOW, models=models)


# --- calls ----------------------------------------------------------------------------------


def test_nothing_is_known_before_anything_is_read() -> None:
    view = State().view(NOW)
    assert (view.in_flight, view.waiting, view.rates, view.loaded) == (None, None, None, None)
    assert (view.models, view.calls, view.verdicts) == ((), None, ())


def test_a_call_is_in_flight_until_it_ends() -> None:
    begun = begins("a", -5.0)
    state = state_of(begun)
    view = state.view(NOW)
    assert (view.in_flight, view.oldest) == (1, 5.0)
    (row,) = view.calls
    assert (row.state, row.elapsed, row.server, row.model) == ("running", 5.0, SERVER, "m")
    state.take("log", LogReading(events=(ends(begun, 5.5, tokens=7),)), NOW + 1)
    view = state.view(NOW + 1)
    (row,) = view.calls
    assert (view.in_flight, view.oldest) == (0, None)
    assert (row.state, row.elapsed, row.input_tokens) == ("completed", 5.5, 7)
    assert row.record is not None
    assert row.record.start.server_port == 11434, "the end has the facts of the beginning"


def test_a_call_whose_beginning_the_log_no_longer_has_is_shown_too() -> None:
    _, ended = call("a", -3.0, 2.0)
    view = state_of(ended).view(NOW)
    (row,) = view.calls
    assert (row.started_at, row.elapsed, row.server) == (NOW - 3.0, 2.0, None)
    assert view.in_flight == 0


def test_an_end_at_an_impossible_time_is_passed_over() -> None:
    _, ended = call("a", -3.0, 2.0)
    for at in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z", "2026-01-01", "now", ""):
        assert state_of(structs.replace(ended, at=at)).view(NOW).calls == ()
    endless = structs.replace(ended, record=structs.replace(ended.record, duration=1e300))
    assert state_of(endless).view(NOW).calls[0].started_at == 0.0


def test_an_unknown_server_is_the_only_one_there_is() -> None:
    _, ended = call("a", -5.0, 2.0)
    state = state_of(ended, *call("b", -4.0, 1.0))
    (row,) = state.view(NOW).models
    assert (row.server, row.ended) == (SERVER, 2)


def test_running_calls_come_first_and_the_newest_of_each() -> None:
    events = (
        *call("old", -9.0, 1.0),
        *call("new", -5.0, 1.0),
        begins("r1", -4.0),
        begins("r2", -2.0),
    )
    assert [row.id for row in state_of(*events).view(NOW).calls] == ["r2", "r1", "new", "old"]


def test_a_call_that_has_run_for_over_an_hour_was_probably_killed() -> None:
    state = state_of(begins("a", -3601.0), begins("b", -10.0))
    view = state.view(NOW)
    assert (view.in_flight, view.unended) == (1, 1)


def test_a_redirect_is_not_a_call_of_its_own() -> None:
    begun = begins("a", -2.0)
    hop = ends(begun, 0.1, http_status=308)
    view = state_of(begun, hop).view(NOW)
    assert (view.calls, view.in_flight) == ((), 0)


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    events = [event for n in range(KEPT_CALLS + 10) for event in call(str(n), -1.0, 0.5)]
    view = state_of(*events).view(NOW)
    assert len(view.calls) == KEPT_CALLS


# --- rates ----------------------------------------------------------------------------------


def test_rates_are_those_of_the_last_minute() -> None:
    events = [
        *call("old", -200.0, 1.0, tokens=1000, prompt=0.1),
        *call("a", -30.0, 1.0, tokens=60, prompt=0.1, time_to_first_chunk=0.2),
        *call("b", -20.0, 3.0, outcome="failed", error_type="timeout"),
        *call("c", -10.0, 2.0, outcome="abandoned"),
    ]
    rates = state_of(*events).view(NOW).rates
    assert rates is not None
    assert (rates.window, rates.ended, rates.failed, rates.cancelled) == (60.0, 3, 1, 1)
    assert (rates.input_tokens, rates.duration, rates.first) == (1.0, 2.0, 0.2)
    assert rates.calls_per_second == 3 / 60


def test_the_window_is_shorter_if_less_has_been_seen() -> None:
    rates = state_of(*call("a", -10.0, 1.0)).view(NOW).rates
    assert rates is not None
    assert (rates.window, rates.calls_per_second) == (10.0, 0.1)


@pytest.mark.slow
def test_the_window_is_shorter_if_older_calls_were_dropped() -> None:
    state = state_of(*call("old", -300.0, 1.0))
    for n in range(KEPT_CALLS):
        state.take("log", LogReading(events=call(str(n), -20.0 + n / 1000, 1.0)), NOW)
    rates = state.view(NOW).rates
    assert rates is not None
    assert (rates.window, rates.ended) == (19.0, KEPT_CALLS)


def test_an_idle_log_has_rates_of_zero_and_medians_that_are_unknown() -> None:
    rates = state_of(now=-100.0).view(NOW).rates
    assert rates is not None
    assert (rates.window, rates.ended, rates.calls_per_second) == (60.0, 0, 0.0)
    assert (rates.duration, rates.first, rates.input_tokens) == (None, None, 0.0)


# --- models and their memory ----------------------------------------------------------------


def test_ps_alone_shows_models_and_nothing_of_calls() -> None:
    state = State()
    loaded = LoadedModel(
        name="m:latest", size=100, gpu_size=50, context_length=4096, expires_in=9.0
    )
    state.take("ps", ps(loaded), NOW)
    view = state.view(NOW)
    assert (view.in_flight, view.rates, view.loaded, view.memory) == (None, None, 1, 100)
    row = only_model(state)
    assert (row.is_loaded, row.is_due, row.memory, row.gpu_share) == (True, False, 100, 0.5)
    assert (row.in_flight, row.ended, row.slots, row.prefill_rate) == (None, None, None, None)
    state.take("ps", ps(LoadedModel(name="m:latest", expires_in=0.0)), NOW)
    assert only_model(state).is_due is True
    state.take("ps", ps(LoadedModel(name="m:latest", stays=True)), NOW)
    row = only_model(state)
    assert (row.is_due, row.stays, row.expires_in) == (None, True, None)


def test_an_expiry_that_moves_shows_that_the_model_was_used() -> None:
    state = State()
    for at, expires_in, used_ago in (
        (0, 300.0, None),
        (5, 295.0, None),
        (7, 299.0, 0.0),
        (9, 297.0, 2.0),
    ):
        loaded = LoadedModel(name="m:latest", expires_in=expires_in)
        state.take("ps", PsReading(server=SERVER, at=NOW + at, models=(loaded,)), NOW + at)
        assert only_model(state, at).used_ago == used_ago
    state.take("log", LogReading(events=call("a", 9.0, 1.0)), NOW + 10)
    assert only_model(state, 14).used_ago == 4.0
    state.take("log", LogReading(events=(begins("b", 12.0),)), NOW + 12)
    assert only_model(state, 14).used_ago == 0.0


def test_no_model_in_memory_is_zero_and_a_failed_source_is_unknown() -> None:
    state = State()
    state.take("ps", ps(), NOW)
    assert state.view(NOW).loaded == 0
    state.failed("ps", "cannot be reached")
    view = state.view(NOW)
    assert view.loaded is None
    assert [(source.name, source.problem) for source in view.sources] == [
        ("ps", "cannot be reached")
    ]
    state.take("ps", ps(), NOW)
    assert state.view(NOW).sources[0].problem is None


def test_a_log_and_ps_are_one_row() -> None:
    state = state_of(begins("a", -5.0, model="M"))
    state.take("ps", ps(LoadedModel(name="m:latest", size=7)), NOW)
    row = only_model(state)
    assert (row.in_flight, row.memory, row.is_loaded) == (1, 7, True)
    state.take("ps", ps(), NOW)
    assert only_model(state).is_loaded is False


def test_a_model_that_answers_without_being_listed_is_not_out_of_memory() -> None:
    state = state_of(*call("a", -9.0, 1.0, prompt=0.1), begins("b", -7.0))
    state.take("ps", ps(), NOW)
    assert only_model(state).is_loaded is None
    assert state.view(NOW).verdicts == ()
    cold = state_of(*call("a", -9.0, 1.0, prompt=0.1, cold_start=True))
    cold.take("ps", ps(), NOW)
    assert only_model(cold).is_loaded is False
    state.take("ps", ps(LoadedModel(name="m")), NOW + 1)
    state.take("ps", ps(), NOW + 2)
    assert only_model(state, 2).is_loaded is False, "it was listed after that call"


def test_loads_that_ps_shows_are_counted_for_five_minutes() -> None:
    state = State()
    here = LoadedModel(name="m:latest")
    state.take("ps", ps(here), NOW)
    assert only_model(state).loads == 0, "when it was loaded is not known"
    for at in (10, 20, 30):
        state.take("ps", ps(), NOW + at)
        state.take("ps", ps(here), NOW + at + 1)
    assert only_model(state, 31).loads == 3
    (verdict,) = state.view(NOW + 31).verdicts
    assert (verdict.kind, verdict.calls) == ("cold_load_thrash", ())
    assert only_model(state, 325).loads == 1


def test_without_ps_the_last_call_says_how_the_model_is_loaded() -> None:
    state = state_of(*call("a", -5.0, 1.0))
    assert only_model(state).gpu_share is None
    assert only_model(state).is_loaded is None


# --- slots and estimates --------------------------------------------------------------------


def test_calls_that_ran_together_show_slots_and_one_that_waited_shows_that_they_are_all() -> None:
    ran = {"prompt": 1.0, "generation": 8.0}
    events = [*call("a", -30.0, 9.0, **ran), *call("b", -29.0, 9.0, **ran)]
    row = only_model(state_of(*events, begins("c", -2.0), begins("d", -1.0), begins("e", -1.0)))
    assert (row.slots, row.slots_are_all, row.in_flight, row.waiting) == (2, False, 3, None)
    waited = call("w", -28.0, 12.0, prompt=1.0, generation=3.0, queue=8.0)
    state = state_of(*events, *waited, begins("c", -2.0), begins("d", -1.0), begins("e", -1.0))
    row = only_model(state)
    assert (row.slots, row.slots_are_all, row.waiting) == (2, True, 1)
    assert state.view(NOW).waiting == 1


def test_the_time_of_a_prompt_is_estimated_once_enough_calls_have_shown_it() -> None:
    # 1000 tokens in 1 s, 4 bytes for each token.
    seen = [
        event
        for n in range(5)
        for event in call(
            f"s{n}", -100.0 + n, 1.5, size=4000, tokens=1000, prompt=1.0, generation=0.5
        )
    ]
    running = begins("r", -2.0, size=40_000)
    assert state_of(*seen[:8], running).view(NOW).calls[0].prefill_estimate is None
    state = state_of(*seen, running)
    row = state.view(NOW).calls[0]
    assert (row.id, row.prefill_estimate, row.prefill_eta) == ("r", 10.0, 8.0)
    late = state.view(NOW + 9).calls[0]
    assert (late.prefill_estimate, late.prefill_eta) == (10.0, None), (
        "its first chunk is not logged"
    )


def test_a_call_behind_others_or_of_a_model_that_is_not_loaded_has_no_estimate_of_its_end() -> None:
    seen = [
        event
        for n in range(5)
        for event in call(
            f"s{n}", -100.0 + 2 * n, 1.5, size=4000, tokens=1000, prompt=1.0, generation=0.5
        )
    ]
    first, second = begins("r1", -2.0, size=40_000), begins("r2", -1.0, size=40_000)
    state = state_of(*seen, first, second)
    etas = {row.id: row.prefill_eta for row in state.view(NOW).calls[:2]}
    assert etas == {"r1": 8.0, "r2": None}
    state.take("ps", ps(LoadedModel(name="m:latest")), NOW)
    assert state.view(NOW).calls[1].prefill_eta == 8.0
    state.take("ps", ps(), NOW)
    assert {row.prefill_eta for row in state.view(NOW).calls[:2]} == {None}


def test_the_context_limits_the_estimate() -> None:
    seen = [
        event
        for n in range(5)
        for event in call(f"s{n}", -100.0 + n, 1.5, size=4000, tokens=1000, prompt=1.0)
    ]
    state = state_of(*seen, begins("r", -2.0, size=40_000))
    state.take("ps", ps(LoadedModel(name="m:latest", context_length=4000)), NOW)
    assert state.view(NOW).calls[0].prefill_estimate == 4.0


# --- scrapes --------------------------------------------------------------------------------


def test_a_scrape_alone_shows_rates_between_two_of_them() -> None:
    state = State()
    first = Scrape(
        in_flight={ONE: 1}, ended={ONE: 10.0}, outcomes={"completed": 10.0}, duration=5.0
    )
    state.take("scrape", first, NOW)
    view = state.view(NOW)
    assert (view.in_flight, view.rates) == (1, None)
    second = Scrape(
        in_flight={ONE: 2},
        ended={ONE: 16.0},
        outcomes={"completed": 14.0, "failed": 1.0, "cancelled": 1.0},
        duration=8.0,
        output_tokens=100.0,
        wait=3.0,
        wait_count=2.0,
        limiter_waiting=4,
        loads={ONE: 1.0},
        models={ONE: ScrapedModel(name="m:latest", memory=9, gpu_share=1.0)},
        watches=True,
    )
    state.take("scrape", second, NOW + 10)
    view = state.view(NOW + 10)
    assert (view.in_flight, view.limiter_waiting, view.loaded, view.memory) == (2, 4, 1, 9)
    rates = view.rates
    assert rates is not None
    assert (rates.window, rates.ended, rates.failed, rates.cancelled) == (10.0, 6, 1, 1)
    assert (rates.output_tokens, rates.duration, rates.waited, rates.wait) == (10.0, 0.5, 2, 1.5)
    (row,) = view.models
    assert (row.ended, row.in_flight, row.loads, row.is_loaded) == (6, 2, 1, True)


def test_a_model_that_the_app_calls_and_does_not_list_may_be_in_memory_under_another_name() -> None:
    state = State()
    state.take("scrape", Scrape(in_flight={ONE: 1}, watches=True), NOW)
    assert only_model(state).is_loaded is None
    state.take("scrape", Scrape(ended={ONE: 1.0}, watches=True), NOW + 1)
    assert only_model(state, 1).is_loaded is None
    state.take("ps", ps(), NOW + 2)
    assert only_model(state, 2).is_loaded is False, "/api/ps knows"


def test_a_scrape_that_fails_leaves_nothing_that_is_said_of_now() -> None:
    state = State()
    state.take("scrape", Scrape(in_flight={ONE: 1}), NOW)
    state.failed("ps", "cannot be reached")
    assert state.view(NOW).in_flight == 1
    state.failed("scrape", "cannot be reached")
    view = state.view(NOW)
    assert (view.in_flight, view.models, view.rates) == (None, (), None)


def test_an_app_that_began_again_counts_from_zero() -> None:
    state = State()
    state.take("scrape", Scrape(ended={ONE: 100.0}), NOW)
    state.take("scrape", Scrape(ended={ONE: 1.0}), NOW + 1)
    assert state.view(NOW + 1).rates is None
    state.take("scrape", Scrape(ended={ONE: 3.0}), NOW + 2)
    rates = state.view(NOW + 2).rates
    assert rates is not None
    assert rates.ended == 2


def test_rates_of_scrapes_are_of_a_minute_at_most() -> None:
    state = State()
    for at in range(0, 200, 10):
        state.take("scrape", Scrape(ended={ONE: float(at)}), NOW + at)
    rates = state.view(NOW + 190).rates
    assert rates is not None
    assert (rates.window, rates.ended) == (60.0, 60)


def test_calls_of_the_log_come_before_those_of_a_scrape() -> None:
    state = state_of(begins("a", -1.0))
    state.take("scrape", Scrape(in_flight={ONE: 7}), NOW)
    assert state.view(NOW).in_flight == 1
    assert only_model(state).in_flight == 1
    idle = state_of()
    idle.take("scrape", Scrape(in_flight={ONE: 7}), NOW)
    assert idle.view(NOW).in_flight == 0


# --- JSON -----------------------------------------------------------------------------------


def test_a_view_is_json() -> None:
    state = state_of(*call("a", -9.0, 1.0, prompt=0.5, tokens=20), begins("b", -1.0))
    values = json.loads(json.dumps(values_of(state.view(NOW), most_calls=1)))
    assert values["in_flight"] == 1
    assert values["rates"]["ended"] == 1
    assert values["models"][0]["model"] == "m"
    (shown,) = values["calls"]
    assert (shown["id"], shown["state"], shown["operation"]) == ("b", "running", "chat")
