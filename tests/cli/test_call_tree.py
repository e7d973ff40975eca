"""A call as a tree, from a record by hand."""

from __future__ import annotations

import pytest
from rich.console import Console

from ollama_otel._cli.call_tree import call_tree
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.records import (
    CallRecord,
    CallResilience,
    CallStart,
    ModelResidency,
    ResponseFacts,
    Truncation,
)

CHAT = find_endpoint("POST", "/api/chat")
assert CHAT is not None

CUT = Truncation(
    kind="prompt_cut",
    certainty="confirmed",
    context_length=512,
    prompt_tokens=3008,
    lost_tokens=2750,
)
DROPPED = Truncation(
    kind="history_dropped",
    certainty="suspected",
    context_length=512,
    lost_tokens=90,
    dropped_messages=3,
)
SHIFTED = Truncation(kind="context_shift", certainty="confirmed", context_length=256)


def lines(*sections: CallResilience | Truncation | ModelResidency) -> list[str]:
    record = CallRecord(
        start=CallStart(endpoint=CHAT),
        outcome="completed",
        ending="final_message",
        duration=1.0,
        **{section.section: section for section in sections},
    )
    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        console.print(call_tree(record, "chat m", ascii_only=True))
    return captured.get().splitlines()[1:]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (CUT, "prompt cut: about 2750 of 3008 tokens lost, context 512"),
        (DROPPED, "3 messages dropped, suspected: about 90 tokens lost, context 512"),
        (
            SHIFTED,
            "beginning of the context dropped while generating: some tokens lost, context 256",
        ),
        (
            CallResilience(attempts=3, retried=("server_busy", "connect"), limiter_wait=0.25),
            "3 attempts, before: server_busy, connect, 0.25 s in the limiter's queue",
        ),
        (CallResilience(attempts=0, rejection="queue_full"), "not sent: queue_full"),
        (
            CallResilience(attempts=1, server_address="other", server_port=1, model="m2"),
            "served by the fallback other:1 m2",
        ),
    ],
)
def test_what_happened_to_a_call_is_said(section: CallResilience | Truncation, said: str) -> None:
    [line] = lines(section)
    assert line.endswith(said)


def test_nothing_is_said_of_a_call_that_was_sent_once_and_read_whole() -> None:
    assert lines(CallResilience(attempts=1, limiter_wait=0.0), Truncation(), ModelResidency()) == []


def test_what_a_log_says_is_escaped() -> None:
    bad: object = "\x1b[31m"
    [line] = lines(Truncation(kind=bad))  # type: ignore[arg-type]
    assert "\x1b" not in line


@pytest.mark.parametrize("width", [38, 40, 60, 120])
def test_a_bar_is_as_long_as_the_line_has_room(width: int) -> None:
    response = ResponseFacts(
        total_duration=1.0, load_duration=0.75, prompt_eval_duration=0.0, eval_duration=0.25
    )
    record = CallRecord(
        start=CallStart(endpoint=CHAT),
        outcome="completed",
        ending="final_message",
        duration=1.0,
        response=response,
    )
    console = Console(width=width, no_color=True)
    with console.capture() as captured:
        console.print(call_tree(record, "chat m", ascii_only=True))
    _, load, decode, *_ = captured.get().splitlines()
    assert [len(line) <= width for line in (load, decode)] == [True, True]
    assert ("load " in load, "decode " in decode) == (True, True)
    expected = {38: 0, 40: 0, 60: 15, 120: 22}[width]
    assert load.count("#") == expected
    assert decode.count("#") == {0: 0, 15: 5, 22: 8}[expected]
