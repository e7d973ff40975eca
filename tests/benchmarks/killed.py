"""Kills a program with signal 9 while it logs streams, and counts what its log has lost.

`python -m tests.benchmarks.killed [--times N]`

The program tells over a pipe how many calls were finished when `flush` came back; each of
these has to be whole in the log, whenever the kill comes.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

from ollama_otel.replay import Skipped, read

_PROGRAM = """
    import os, sys, threading
    from ollama_otel import Client
    from ollama_otel.replay import ReplayLog
    from ollama_otel.testing import FakeModel, FakeOllama

    log = ReplayLog(sys.argv[1], bodies=True, max_size=50_000, keep=10_000)
    fake = FakeOllama([FakeModel("m", reply="some words " * 20, load=0, prompt=0, token=0)])
    client = Client(transport=fake.transport(), observers=[log])
    finished = 0

    def tell():
        while True:
            written = finished
            if written and log.flush():
                os.write(1, b"%d\\n" % written)

    threading.Thread(target=tell, daemon=True).start()
    while True:
        question = [{"role": "user", "content": str(finished)}]
        for part in client.chat("m", messages=question, stream=True):
            pass
        finished += 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """What one kill left behind."""

    told: int
    """Calls that the program said were written."""
    read: int
    """Finished calls in the log."""
    lost: int
    """Calls that were told and are not there, or not whole."""
    unended: int
    torn: int


def kill_and_read(folder: Path, *, after: float) -> Killed:
    """Run the program, kill it `after` seconds from its first word on, and read its log."""
    folder.mkdir()
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PROGRAM), str(folder / "calls.jsonl")],
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    first = program.stdout.readline()
    time.sleep(after)
    program.kill()
    words = (first + program.communicate()[0]).split(b"\n")[:-1]
    told = int(words[-1])
    torn: list[Skipped] = []
    calls = list(read(folder / "calls.jsonl", report=torn.append))
    whole = {
        call.request_body["messages"][0]["content"]
        for call in calls
        if call.record is not None
        and call.request_body is not None
        and call.record.outcome == "completed"
        and (call.body or b"").count(b"\n") == call.record.chunk_count
    }
    return Killed(
        told=told,
        read=len(whole),
        lost=len({str(number) for number in range(told)} - whole),
        unended=sum(call.record is None for call in calls),
        torn=len(torn),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    arguments = parser.parse_args()
    moments = random.Random(9)
    with tempfile.TemporaryDirectory() as folder:
        kills = [
            kill_and_read(Path(folder) / str(number), after=moments.uniform(0.0, 0.6))
            for number in range(arguments.times)
        ]
    print(f"{len(kills)} kills; calls told {sum(k.told for k in kills)}")
    print(f"read {sum(k.read for k in kills)}, lost {sum(k.lost for k in kills)}")
    print(
        f"without an end {sum(k.unended for k in kills)}, torn lines {sum(k.torn for k in kills)}"
    )


if __name__ == "__main__":
    main()
