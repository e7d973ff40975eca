"""The command `top`: the screen as text, the keys, and one view as JSON."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.cells import cell_len

from ollama_otel import Client
from ollama_otel._cli import main
from ollama_otel._cli.top_app import TopApp
from ollama_otel._cli.top_cells import short_bytes, short_count, short_rate, short_seconds
from ollama_otel._cli.top_screen import Choice, lines_of
from ollama_otel._log.cassette import write_cassette
from ollama_otel._log.format import LoggedEnd, LoggedStart
from ollama_otel._top.readings import LogReading, PsReading
from ollama_otel._top.state import State
from ollama_otel._top.view import VerdictKind, values_of
from ollama_otel._wire.ps import LoadedModel
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import FakeOllama
from tests.log.event_lines import append, end, line
from tests.top.events import NOW, SERVER, begins, call, state_of

if sys.platform != "win32":
    import fcntl
    import struct
    import termios


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def anyio_backend() -> str:
    """The one that textual runs on."""
    return "asyncio"


def workload() -> list[LoggedStart | LoggedEnd]:
    """A bit of everything."""
    prompts = [
        event
        for n in range(5)
        for event in call(
            f"long-{n}",
            -50.0 + n,
            2.0,
            model="qwen3:8b",
            size=4000,
            tokens=1000,
            prompt=1.0,
            generation=0.5,
            load=0.1,
            queue=0.3,
            time_to_first_chunk=1.4,
        )
    ]
    return [
        *prompts,
        *(event for n in range(3) for event in call(
            f"bad-{n}", -20.0 + n, 0.2, model="missing", outcome="failed",
            error_type="model_not_found", error_message="model 'missing' not found",
        )),
        *call("cold-1", -12.0, 9.0, model="llama3.2", load=8.0, prompt=0.1, generation=0.8,
              tokens=12, cold_start=True, reload_cause="num_ctx", conversation="talk-1"),
        begins("now-1", -2.0, model="qwen3:8b", size=40_000, conversation="talk-2"),
    ]  # fmt: skip


def full_state() -> State:
    state = state_of(*workload())
    models = (
        LoadedModel(name="llama3.2:latest", size=2_000_000_000, gpu_size=2_000_000_000,
                    context_length=4096, expires_in=240.0),
        LoadedModel(name="qwen3:8b", size=6_100_000_000, gpu_size=3_050_000_000,
                    context_length=40_960, expires_in=0.0),
    )  # fmt: skip
    state.take(
        "http://localhost:11434/api/ps", PsReading(server=SERVER, at=NOW, models=models), NOW
    )
    return state


def screen(state: State, width: int = 80, height: int = 24, **choice: Any) -> list[str]:
    lines = lines_of(state.view(NOW), Choice(**choice), width=width, height=height)
    return [line.plain.rstrip() for line in lines]


# --- the screen as text ---------------------------------------------------------------------


def test_a_screen_of_80_columns() -> None:
    assert screen(full_state()) == SCREEN.splitlines()


SCREEN = """\
ollama-otel top  22:13:20  by TIME down
in flight 1, oldest 2.00s | waiting for a slot ~0 | 2 models in memory, 8.1GB
last 50 s: 0.2/s calls ended | 3 failed | tokens in 100/s out 1.2/s | took 2.00s
first chunk 1.40s | 5 waited 300ms
MODEL               USED MEMORY  GPU    CTX  UNTIL FLIGHT ENDED  PREFILL  DECODE
llama3.2              3s  2.0GB 100%   4096  4m00s   0/1+     1        -  12.5/s
missing              18s      -    -      -    out      0     3        -       -
qwen3:8b              0s  6.1GB  50%  40960    due    1/2     5  ~1.0k/s    20/s
! missing: the last 3 calls failed (model_not_found)
! qwen3:8b: 5 of 5 calls waited for a slot, about 0.3 s (median)
! qwen3:8b: 1 call in flight with a long prompt, by estimate 8 s to go
   AGO MODEL        STATE    TOOK  FIRST  QUEUE   LOAD PROMPT   EVAL    IN   OUT
>   2s qwen3:8b     run     2.00s      -      -      - ~8.00s      -     -     -
   12s llama3.2     done    9.00s      -    0ms  8.00s  100ms  800ms    12    10
   18s missing      failed  200ms      - model_not_found                 -     -
   19s missing      failed  200ms      - model_not_found                 -     -
   20s missing      failed  200ms      - model_not_found                 -     -
   46s qwen3:8b     done    2.00s  1.40s  300ms  100ms  1.00s  500ms  1.0k    10
   47s qwen3:8b     done    2.00s  1.40s  300ms  100ms  1.00s  500ms  1.0k    10
   48s qwen3:8b     done    2.00s  1.40s  300ms  100ms  1.00s  500ms  1.0k    10
   49s qwen3:8b     done    2.00s  1.40s  300ms  100ms  1.00s  500ms  1.0k    10
   50s qwen3:8b     done    2.00s  1.40s  300ms  100ms  1.00s  500ms  1.0k    10

q quit  s sort  r reverse  / filter  Enter open  v verdicts  p pause  ? help
"""


def test_a_wide_screen_has_the_id_the_operation_and_a_note() -> None:
    lines = screen(full_state(), width=140, height=30)
    (cold,) = [line for line in lines if "cold-1" in line]
    assert "chat llama3.2" in cold
    assert cold.endswith("cold: num_ctx")
    (bad,) = [line for line in lines if "bad-2" in line]
    assert bad.endswith("model_not_found")


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200])
@pytest.mark.parametrize("height", [5, 10, 24, 60])
def test_a_screen_has_the_size_of_the_terminal(width: int, height: int) -> None:
    lines = lines_of(full_state().view(NOW), Choice(), width=width, height=height)
    assert len(lines) == height
    assert all(cell_len(line.plain) <= width for line in lines)


def test_ps_alone_has_no_calls() -> None:
    state = State()
    state.take(
        "ps", PsReading(server=SERVER, at=NOW, models=(LoadedModel(name="m", stays=True),)), NOW
    )
    lines = screen(state)
    assert lines[1] == "1 model in memory"
    assert lines[3].split() == ["m", "-", "-", "-", "-", "stays", "-", "-", "-", "-"]
    assert not any("AGO" in line for line in lines)


def test_a_source_that_fails_is_one_line() -> None:
    state = state_of(begins("a", -1.0))
    state.failed("http://gpu:11434/api/ps", "cannot be reached:\nConnectionRefusedError")
    assert "! http://gpu:11434/api/ps: cannot be reached: ConnectionRefusedError" in screen(state)


def test_servers_are_told_apart() -> None:
    state = state_of(begins("a", -1.0), begins("b", -1.0, port=11500))
    lines = screen(state)
    at = lines.index("localhost:11434")
    assert lines[at + 1].startswith("m ")
    assert lines[at + 2] == "localhost:11500"


def test_what_does_not_fit_is_counted() -> None:
    events = [event for n in range(30) for event in call(f"c{n}", -9.0, 1.0, model=f"m{n}")]
    assert any(
        line.startswith("and 2") and line.endswith(" more models")
        for line in screen(state_of(*events))
    )
    bad = [
        event
        for model in "abcdefgh"
        for n in range(3)
        for event in call(f"{model}{n}", -9.0, 1.0, model=model, outcome="cancelled")
    ]
    assert "! 6 more verdicts: press v" in screen(state_of(*bad), height=20)


def test_untrusted_text_cannot_control_the_terminal() -> None:
    begun, ended = call("a\x1b[31m", -2.0, 1.0, model="m\x1b]0;x\x07\n")
    for lines in (screen(state_of(begun, ended)), screen(state_of(begun, ended), width=140)):
        assert not any("\x1b" in line or "\x07" in line for line in lines)


def test_the_filter_and_the_order_are_shown() -> None:
    lines = screen(full_state(), sort="TOOK", words="qwen3 completed", is_paused=True)
    assert lines[0].endswith("  PAUSED  by TOOK down  filter: qwen3 completed")
    shown = [line for line in lines if "done" in line]
    assert len(shown) == 5
    assert "no call has these words" in screen(full_state(), words="nothing")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0.0, "0ms"), (1e-17, "0ms"), (0.0004, "0.4ms"), (0.0994, "99ms"), (0.9994, "999ms"), (0.9996, "1.00s"),
        (9.994, "9.99s"), (9.996, "10.0s"), (99.94, "99.9s"), (100.0, "1m40s"), (5999.0, "99m59s"),
        (6000.0, "1h40m"), (360_000.0, "4d04h"), (1e9, "11574d"),
    ],
)  # fmt: skip
def test_durations_are_short(value: float | None, text: str) -> None:
    assert short_seconds(value) == text
    assert len(text) <= 6


def test_numbers_are_short() -> None:
    assert [short_count(n) for n in (None, 0, 7, 999, 1000, 99_949, 123_456, 2_500_000)] == [
        "-", "0", "7", "999", "1.0k", "99.9k", "123k", "2.5M",
    ]  # fmt: skip
    assert [short_bytes(n) for n in (0, 999, 1_900_000_000, 40_000_000_000)] == [
        "0B", "999B", "1.9GB", "40.0GB",
    ]  # fmt: skip
    assert [short_rate(n) for n in (0.0, 0.25, 12.34, 1234.0)] == [
        "0/s",
        "0.2/s",
        "12.3/s",
        "1.2k/s",
    ]


# --- keys -----------------------------------------------------------------------------------


class Given:
    """News that a test gives by hand."""

    def __init__(self, *readings: LogReading | PsReading) -> None:
        self.readings = [*readings]

    def into(self, state: State) -> None:
        while self.readings:
            state.take("log", self.readings.pop(0), NOW)


class Program(TopApp):
    """The program, whose screen a test can read; it looks when it is told to."""

    def __init__(self, news: Given) -> None:
        super().__init__(news, interval=1e6, clock=lambda: NOW)

    @property
    def text(self) -> list[str]:
        shown = self.screen.query("#screen, #page").first()
        width, height = shown.size
        return (
            [
                "".join(segment.text for segment in shown.render_line(y)).rstrip()
                for y in range(height)
            ][:height]
            if width
            else []
        )


def program() -> Program:
    return Program(Given(LogReading(events=tuple(workload()))))


def cursor(lines: Sequence[str]) -> str:
    (line,) = [line for line in lines if line.startswith(">")]
    return line.split()[2]


@pytest.mark.slow
async def test_the_program_shows_the_screen() -> None:
    app = program()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert app.text[1].startswith("in flight 1, oldest 2.00s")
        assert app.text[-1].startswith("q quit")
        assert cursor(app.text) == "qwen3:8b"
        await pilot.resize_terminal(140, 40)
        await pilot.pause()
        assert "NOTE" in "\n".join(app.text)
        await pilot.press("q")
    assert app.return_code == 0


@pytest.mark.slow
async def test_the_cursor_stays_on_its_call_and_on_the_first_line() -> None:
    app = program()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down")
        assert cursor(app.text) == "llama3.2"
        newer = begins("newer", -1.0, model="newer")
        app._news.readings.append(LogReading(events=(newer,)))
        app.look()
        await pilot.pause()
        assert cursor(app.text) == "llama3.2"
        await pilot.press("home")
        assert cursor(app.text) == "newer"
        app._news.readings.append(LogReading(events=(begins("newest", -0.5, model="newest"),)))
        app.look()
        await pilot.pause()
        assert cursor(app.text) == "newest"
        await pilot.press("end")
        assert "s qwen3:8b" in next(line for line in app.text if line.startswith(">"))


@pytest.mark.slow
async def test_a_call_is_opened_and_left() -> None:
    app = program()
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.press("down", "enter")
        await pilot.pause()
        page = "\n".join(app.text)
        assert "cold-1, 2023-11-14 22:13:08 +0000, localhost:11434" in page
        assert "conversation=talk-1" in page
        assert "load                  8.00 s" in page
        assert "loaded again for this call: num_ctx default -> default" in page
        assert "input_tokens                12" in page
        await pilot.press("escape")
        await pilot.pause()
        assert app.text[-1].startswith("q quit")


@pytest.mark.slow
async def test_an_open_call_is_shown_as_it_ends() -> None:
    app = program()
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.press("enter")
        await pilot.pause()
        page = "\n".join(app.text)
        assert "in flight for 2.00 s" in page
        assert "its prompt is processed in about 8.00 s (of 10.00 s), by estimate" in page
        (ended,) = call("now-1", -2.0, 2.0, model="qwen3:8b", outcome="failed",
                        error_type="timeout", error_message="ReadTimeout")[1:]  # fmt: skip
        app._news.readings.append(LogReading(events=(ended,)))
        app.look()
        await pilot.pause()
        assert "failed: timeout" in "\n".join(app.text)
        assert "ReadTimeout" in "\n".join(app.text)


@pytest.mark.slow
async def test_a_filter_is_typed_and_taken() -> None:
    app = program()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", *"timeout", "enter", "s", "r")
        await pilot.pause()
        assert app.text[0].endswith("by TOOK up  filter: timeout")
        assert "no call has these words" in app.text
        await pilot.press("slash", *["backspace"] * 7, *"cold", "escape")
        await pilot.pause()
        assert cursor(app.text) == "llama3.2"


@pytest.mark.slow
async def test_pausing_stops_the_screen_and_not_the_reading() -> None:
    app = program()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("p")
        app._news.readings.append(LogReading(events=(begins("newer", -1.0, model="newer"),)))
        app.look()
        await pilot.pause()
        assert "  PAUSED  " in app.text[0]
        assert app.text[1].startswith("in flight 1")
        await pilot.press("p")
        app.look()
        await pilot.pause()
        assert app.text[1].startswith("in flight 2")


@pytest.mark.slow
async def test_help_and_verdicts_are_pages() -> None:
    app = program()
    async with app.run_test(size=(80, 50)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        assert "Keys" in app.text
        await pilot.press("q", "v")
        await pilot.pause()
        page = "\n".join(app.text)
        assert "errors_in_a_row, localhost:11434" in page
        assert "calls: bad-0 bad-1 bad-2" in page
        await pilot.press("enter")
        await pilot.pause()
        assert app.text[-1].startswith("q quit")


# --- the command ----------------------------------------------------------------------------


def top(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    unset = {"OLLAMA_OTEL_REPLAY_LOG", "OLLAMA_HOST"}
    known = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [sys.executable, "-m", "ollama_otel._cli", "top", *map(str, arguments)],
        env={**known, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.mark.sockets
@pytest.mark.processes
def test_one_view_as_json(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with (
        ReplayLog(path) as log,
        FakeOllama().serve() as url,
        Client(url, observers=[log]) as client,
    ):
        client.chat("llama3.2", [{"role": "user", "content": "Hello"}])
        log.flush()
        ran = top(path, "--host", url, "--json")
        alone = top("--json", OLLAMA_HOST=url)
        configured = top("--json", OLLAMA_HOST=url, OLLAMA_OTEL_REPLAY_LOG=str(path))
    assert (ran.returncode, ran.stderr) == (0, "")
    view = json.loads(ran.stdout)
    assert [source["problem"] for source in view["sources"]] == [None, None]
    assert (view["in_flight"], view["loaded"]) == (0, 1)
    assert [call["operation"] for call in view["calls"]] == ["chat"]
    (model,) = view["models"]
    assert (model["model"], model["is_loaded"]) == ("llama3.2", True)
    view = json.loads(alone.stdout)
    assert (view["in_flight"], view["loaded"], view["calls"]) == (None, 1, None)
    assert len(json.loads(configured.stdout)["calls"]) == 1


@pytest.mark.processes
def test_sources_that_fail_are_in_the_json(tmp_path: Path) -> None:
    ran = top(tmp_path / "none.jsonl", "--host", "127.0.0.1:1", "--scrape", "127.0.0.1:1",
              "--interval", "0.01", "--json")  # fmt: skip
    assert ran.returncode == 0
    sources = json.loads(ran.stdout)["sources"]
    assert [source["name"] for source in sources][1:] == [
        "http://127.0.0.1:1/api/ps",
        "http://127.0.0.1:1/metrics",
    ]
    assert all(source["problem"] for source in sources)


def test_what_nobody_writes_to_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cassette(tmp_path / "chat.json", [])
    assert main(["top", str(tmp_path / "chat.json"), "--json"]) == 2
    assert "expected a log that is being written, found a cassette" in capsys.readouterr().err


@pytest.mark.processes
def test_without_a_terminal_json_is_named(tmp_path: Path) -> None:
    ran = top(tmp_path / "calls.jsonl")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "ollama-otel: top needs a terminal: use --json to print one view\n"


def test_without_textual_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "textual" or name == "ollama_otel._cli.top_app":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["top", str(tmp_path / "calls.jsonl")]) == 2
    assert "pip install 'ollama_otel[top]'" in capsys.readouterr().err
    assert main(["top", str(tmp_path / "calls.jsonl"), "--json"]) == 0


# --- a real terminal ------------------------------------------------------------------------

COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-79]|4[0-79]|9[0-7])[;m]")


def on_a_terminal(*arguments: object, keys: bytes = b"q", **environment: str) -> tuple[int, str]:
    """Run `top` on a terminal of 80 columns until it shows calls, and press keys."""
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    known = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ollama_otel._cli", "top", *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**known, "TERM": "xterm-256color", **environment},
    )
    os.close(terminal)
    giving_up = threading.Timer(120, process.kill)
    giving_up.start()
    shown, is_pressed = "", False
    with contextlib.suppress(OSError):  # the other end is closed
        while data := os.read(master, 65_536):
            shown += data.decode("utf-8", "replace")
            if not is_pressed and "done" in shown:
                is_pressed = True
                os.write(master, keys)
    os.close(master)
    giving_up.cancel()
    return process.wait(30), shown


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
@pytest.mark.parametrize("way", ["flag", "variable", "colours"])
def test_on_a_terminal_colours_are_the_users_choice(tmp_path: Path, way: str) -> None:
    path = tmp_path / "calls.jsonl"
    append(path, line(1), end(1))
    flags = ["--no-color"] if way == "flag" else []
    environment = {"NO_COLOR": "1"} if way == "variable" else {}
    status, shown = on_a_terminal(path, *flags, "--interval", 0.1, **environment)
    assert status == 0
    assert bool(COLOUR.search(shown)) == (way == "colours")
    assert "Traceback" not in shown


# --- the page -------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "top.md").read_text(encoding="utf-8")


def test_the_picture_on_the_page_is_the_screen() -> None:
    picture = PAGE.split("```text\n")[1].split("```")[0].splitlines()
    shown = SCREEN.splitlines()
    assert [line for line in picture if line not in shown] == []
    assert picture[0] == shown[0]
    assert picture[-1] == shown[-1]


def test_every_verdict_column_and_key_is_on_the_page() -> None:
    assert all(f"| `{kind}` |" in PAGE for kind in get_args(VerdictKind))
    wide = screen(full_state(), width=140, height=30)
    titles = {
        word for line in wide if line.split()[:1] in (["MODEL"], ["TIME"]) for word in line.split()
    }
    assert {"USED", "DECODE", "LOADS", "QUEUE"} <= titles
    named = {*re.findall(r"[A-Z]{2,}", PAGE)}
    # Said in words: the columns of a wide screen, and what needs no definition.
    assert titles - named == {"ID", "CALL", "NOTE"} - named
    keys = json.loads(json.dumps(values_of(full_state().view(NOW), most_calls=1)))
    keyed = [keys, keys["rates"], keys["models"][0], keys["verdicts"][0], keys["sources"][0]]
    assert all(f"`{key}`" in PAGE for each in keyed for key in each)
