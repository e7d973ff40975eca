"""Which calls were slow yesterday and why, which failed, and what one of them looked like.

    pip install ollama_otel
    python examples/debug_yesterday.py calls.jsonl [SECONDS]

A call is slow if it took SECONDS or more, by default 2. `ollama-otel show calls.jsonl --slow` lists
such calls too.

It reads the log of an app that has `configure(replay_log="calls.jsonl", replay_bodies=True)`.
No Ollama is needed: the call that is made again is answered from the log.
"""

from __future__ import annotations

import os
import sys

import httpx

from ollama_otel.errors import ReplayLogError
from ollama_otel.replay import RecordedCall, read, replay

REASONS = {
    "load": "the model was cold and had to be loaded",
    "queue_estimate": "it waited in the queue",
    "prompt_eval": "the prompt took long to read",
    "eval": "the answer took long to write",
    "unaccounted": "the server does not say why",
    "client": "the network or the reader took long",
}


def main(log: str = "calls.jsonl", seconds: str = "2") -> None:
    limit = float(seconds)
    try:
        calls = list(read(log))
    except ReplayLogError as error:
        sys.exit(f"{error}\nWith replay_bodies=True it has what was said in the calls, too.")
    unended = [call for call in calls if call.record is None]
    failed = [call for call in calls if call.record and call.record.outcome == "failed"]
    slow = [call for call in calls if call.record and call.record.duration >= limit]
    print(f"{len(calls)} calls: {len(slow)} took {limit:g} s or more, {len(failed)} failed,")
    print(f"{len(unended)} never ended: their process was killed, or they still run.")
    for call in unended:
        print(f"  {name_of(call)}: began and never ended")
    for call in slow:
        print(f"  {name_of(call)}: {call.record.duration:.1f} s, {reason_of(call)}")
    for call in failed:
        print(f"  {name_of(call)}: {call.record.error_type}, {call.record.error_message}")
    for call in (failed or slow)[:1]:
        play(call)


def name_of(call: RecordedCall) -> str:
    return f"{call.id} {call.start.endpoint.name} {call.start.request.model or ''}"


def reason_of(call: RecordedCall) -> str:
    phases = call.record.phases
    longest = max(phases, key=phases.__getitem__)
    return f"{REASONS[longest]} ({phases[longest]:.1f} s)"


def play(call: RecordedCall) -> None:
    """Make the call again with a plain client, and show what came back then."""
    print(f"\n{name_of(call)}, once more:")
    if call.body is None:
        print("Its answer is not in the log: replay_bodies was off, or none ever came.")
        return
    url = f"http://localhost:11434{call.path}"
    with replay([call], speed=0), httpx.Client() as client:
        try:
            answer = client.request(call.start.endpoint.method, url, json=call.request_body)
        except httpx.HTTPError as error:
            print(f"{type(error).__name__}: {error}")
        else:
            print(f"HTTP {answer.status_code}\n{answer.text.rstrip()}")


try:
    main(*sys.argv[1:])
    sys.stdout.flush()
except BrokenPipeError:
    # The reader, such as `head`, has enough; what is not written yet goes nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
