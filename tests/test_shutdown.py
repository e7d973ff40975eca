"""`Telemetry.shutdown`, at exit or by hand: within one limit, and with one line for what is lost."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from .collector import Collector, collecting
from .test_setup import PRELUDE, run

pytestmark = [pytest.mark.processes, pytest.mark.sockets]

ALL = "emit_events=True, export_interval=3600"
# The limit of most programs here. A program may take longer on a machine with other work, but
# without a limit it takes 10 s at least, and 40 s for three signals.
LIMIT = 1.0
SHORT = {"OLLAMA_OTEL_SHUTDOWN_TIMEOUT": str(LIMIT)}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


MEASURED = """
import time
began = time.monotonic()
kept = telemetry.shutdown({})
tell([kept, time.monotonic() - began])
"""


# --- the limit --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_that_hangs_costs_the_limit_once(protocol: str) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        ran = run(
            f"telemetry = configure(endpoint='http://127.0.0.1:{port}', protocol={protocol!r}, {ALL})\n"
            "chat(); chat()\n" + MEASURED.format("timeout=1.0")
        )
    [[kept, seconds]] = ran.told
    assert not kept
    assert 0.5 < seconds < 8
    [line] = ran.stderr.splitlines()
    assert re.fullmatch(
        rf"not exported at shutdown: 2 spans, 1 metric export, 2 log records to \S*127.0.0.1:{port} \(no answer .*\)",
        line,
    )


@pytest.mark.parametrize("status", [429, 503])
def test_a_collector_that_always_asks_to_wait_costs_the_limit_once(
    collector: Collector, status: int
) -> None:
    collector.status_by_path = dict.fromkeys(("/v1/traces", "/v1/metrics", "/v1/logs"), status)
    ran = run(
        f"telemetry = configure(endpoint={collector.url!r}, {ALL})\nchat()\n"
        + MEASURED.format("timeout=1.0")
    )
    [[kept, seconds]] = ran.told
    assert not kept
    assert seconds < 8
    assert ran.stderr == (
        f"not exported at shutdown: 1 span, 1 metric export, 1 log record to {collector.url} "
        "(the collector is overloaded or not ready)\n"
    )


def test_at_exit_the_limit_holds_as_well() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        began = time.monotonic()
        ran = run(
            f"configure(endpoint='http://127.0.0.1:{mute.getsockname()[1]}', {ALL})\nchat()",
            **SHORT,
        )
        assert time.monotonic() - began < 9
    assert ran.stderr.startswith("not exported at shutdown: 1 span, 1 metric export, 1 log record")
    assert ran.stderr.count("\n") == 1


def test_a_slow_collector_that_answers_within_the_limit_gets_everything(
    collector: Collector,
) -> None:
    collector.delay = 1.0
    ran = run(
        f"telemetry = configure(endpoint={collector.url!r}, shutdown_timeout=30, {ALL})\n"
        "for _ in range(3): chat()\n"
    )
    assert ran.stderr == ""
    outcomes = Counter(collector.outcomes())
    assert (
        outcomes == collector.durations() == Counter(collector.event_outcomes()) == {"completed": 3}
    )


def test_what_waits_behind_a_batch_is_counted_too(collector: Collector) -> None:
    collector.is_hanging = True
    ran = run(
        f"telemetry = configure(endpoint={collector.url!r}, export_interval=3600)\n"
        "for _ in range(25): chat()\n" + MEASURED.format("timeout=0.5"),
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10",
        OTEL_BSP_SCHEDULE_DELAY="3600000",
    )
    assert "not exported at shutdown: 25 spans, 1 metric export to" in ran.stderr


# --- who may call it, and how often -----------------------------------------------------------


def test_it_has_an_effect_once_and_calls_go_on(collector: Collector) -> None:
    ran = run(
        f"""
        telemetry = configure(endpoint={collector.url!r}, {ALL})
        chat()
        tell([telemetry.shutdown(), telemetry.shutdown(), telemetry.flush()])
        chat()
        tell(telemetry.shutdown())
        """
    )
    assert ran.told == [[True, True, False], True]
    assert ran.stderr == ""
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


def test_providers_that_the_app_has_shut_down_itself_say_nothing(collector: Collector) -> None:
    ran = run(
        f"""
        telemetry = configure(endpoint={collector.url!r}, {ALL})
        chat()
        for provider in (
            telemetry.tracer_provider, telemetry.meter_provider, telemetry.logger_provider
        ):
            provider.shutdown()
        """
    )
    assert ran.stderr == ""
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


def test_many_threads_may_call_it_at_once(collector: Collector) -> None:
    ran = run(
        f"""
        import threading
        telemetry = configure(endpoint={collector.url!r}, {ALL})
        chat()
        results = []
        threads = [
            threading.Thread(target=lambda f=f: results.append(f()))
            for f in [telemetry.shutdown] * 4 + [telemetry.flush] * 4
        ]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        tell(len(results))
        """
    )
    assert ran.told == [8]
    assert ran.stderr == ""
    assert Counter(collector.outcomes()) == {"completed": 1}


def test_the_garbage_collector_leaves_it_to_a_better_moment(collector: Collector) -> None:
    ran = run(
        f"""
        import gc
        telemetry = configure(endpoint={collector.url!r}, {ALL})
        chat()
        class Ring:
            def __init__(self): self.me = self
            def __del__(self): tell(telemetry.shutdown())
        Ring()
        gc.collect()
        """
    )
    assert ran.told == [False]
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


def test_a_second_configure_that_sets_up_nothing_ends_nothing(collector: Collector) -> None:
    ran = run(
        f"""
        from ollama_otel.testing import FakeOllama
        telemetry = configure(endpoint={collector.url!r}, {ALL})
        second = configure()
        fake = Client(transport=FakeOllama().transport())
        stream = fake.chat("llama3.2", messages=[{{"role": "user", "content": "x"}}], stream=True)
        next(stream)
        tell(second.shutdown())
        tell(len(list(stream)) > 1)
        """,
        OTEL_LOGS_EXPORTER="none",
    )
    assert ran.told == [True, True]
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


def test_it_is_a_context_manager(collector: Collector) -> None:
    run(
        f"""
        with configure(endpoint={collector.url!r}, {ALL}):
            chat()
        import os
        os._exit(0)
        """
    )
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_it_is_an_async_one_that_does_not_block_the_loop(
    collector: Collector, library: str
) -> None:
    collector.delay = 0.5
    ran = run(
        f"""
        import anyio
        telemetry = configure(endpoint={collector.url!r}, shutdown_timeout=30, {ALL})
        ticks = 0
        async def tick():
            global ticks
            while True:
                await anyio.sleep(0.01)
                ticks += 1
        async def main():
            async with anyio.create_task_group() as group:
                group.start_soon(tick)
                async with telemetry.lifespan(None) as state:
                    chat()
                    tell(state)
                tell(ticks > 1)
                group.cancel_scope.cancel()
        anyio.run(main, backend={library!r})
        import os
        os._exit(0)
        """
    )
    assert ran.told == [None, True]
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


# --- what ends with it ------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["telemetry.shutdown()", ""])
def test_open_streams_end_alike_in_everything_that_is_kept(
    collector: Collector, by: str, tmp_path: Path
) -> None:
    ran = run(
        f"""
        from ollama_otel.testing import FakeOllama
        telemetry = configure(endpoint={collector.url!r}, replay_log={str(tmp_path)!r}, {ALL})
        fake = Client(transport=FakeOllama().transport())
        def stream():
            return fake.chat("llama3.2", messages=[{{"role": "user", "content": "x"}}], stream=True)
        whole = [part.message.content for part in stream()]
        streams = [stream() for _ in range(20)]
        begun = [next(each).message.content for each in streams]
        {by}
        if {bool(by)}:
            tell(all([first, *(part.message.content for part in each)] == whole
                     for first, each in zip(begun, streams)))
        """
    )
    assert ran.told == ([True] if by else [])
    assert ran.stderr == ""
    from ollama_otel.replay import read

    logged = Counter(call.record.outcome for call in read(tmp_path) if call.record)
    expected = {"completed": 1, "cancelled": 20}
    assert Counter(collector.outcomes()) == collector.durations() == expected
    assert logged == Counter(collector.event_outcomes()) == expected


def test_a_call_that_begins_amid_a_shutdown_is_in_nothing_that_is_kept(
    collector: Collector, tmp_path: Path
) -> None:
    ran = run(
        f"""
        telemetry = configure(endpoint={collector.url!r}, replay_log={str(tmp_path)!r}, {ALL})
        chat()
        log = type(telemetry.replay_log)
        close = log.close
        def close_and_chat(self, *arguments):
            is_closed = close(self, *arguments)
            chat()
            return is_closed
        log.close = close_and_chat
        tell(telemetry.shutdown())
        """
    )
    assert ran.told == [True]
    from ollama_otel.replay import read

    assert [call.record.outcome for call in read(tmp_path) if call.record] == ["completed"]
    assert Counter(collector.outcomes()) == collector.durations() == {"completed": 1}
    assert collector.event_outcomes() == ["completed"]


def test_a_child_exports_its_own_calls_only(collector: Collector) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this platform has no fork")
    ran = run(
        f"""
        import os, sys
        telemetry = configure(endpoint={collector.url!r}, {ALL})
        chat()
        child = os.fork()
        if child == 0:
            chat()
            sys.exit()
        os.waitpid(child, 0)
        """
    )
    assert ran.stderr == ""
    assert len(collector.spans()) == 2


def test_a_child_of_multiprocessing_exports_its_calls_too(collector: Collector) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this platform has no fork")
    ran = run(
        f"""
        import multiprocessing
        telemetry = configure(endpoint={collector.url!r}, {ALL})
        chat()
        process = multiprocessing.get_context("fork").Process(target=chat)
        process.start(); process.join()
        """
    )
    assert ran.stderr == ""
    assert Counter(collector.outcomes()) == {"completed": 2}


def test_no_thread_has_to_start_at_exit(collector: Collector, tmp_path: Path) -> None:
    """Python 3.12 and later refuse it."""
    ran = run(
        f"""
        import atexit, threading
        from ollama_otel.testing import FakeOllama
        configure(endpoint={collector.url!r}, replay_log={str(tmp_path)!r}, {ALL})
        fake = Client(transport=FakeOllama().transport())
        stream = fake.chat("llama3.2", messages=[{{"role": "user", "content": "x"}}], stream=True)
        next(stream)
        def refuse(thread):
            raise RuntimeError("can't create new thread at interpreter shutdown")
        atexit.register(setattr, threading.Thread, "start", refuse)
        """
    )
    assert ran.stderr == ""
    expected = {"cancelled": 1}
    assert Counter(collector.outcomes()) == collector.durations() == expected
    assert Counter(collector.event_outcomes()) == expected


def test_a_hook_of_the_application_may_make_calls_at_exit(collector: Collector) -> None:
    run(
        f"""
        import atexit
        configure(endpoint={collector.url!r}, {ALL})
        atexit.register(chat)
        chat()
        """
    )
    assert Counter(collector.outcomes()) == {"completed": 2} == collector.durations()


def test_a_disk_that_hangs_does_not_keep_the_process(collector: Collector, tmp_path: Path) -> None:
    began = time.monotonic()
    ran = run(
        f"""
        import threading
        from ollama_otel._log.files import LogFile
        LogFile.append = lambda self, data: threading.Event().wait()
        telemetry = configure(endpoint={collector.url!r}, replay_log={str(tmp_path)!r}, {ALL})
        chat()
        """,
        OLLAMA_OTEL_SHUTDOWN_TIMEOUT="2",
    )
    assert time.monotonic() - began < 9
    assert "was not written in time at exit" in ran.stderr
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


# --- SIGTERM ----------------------------------------------------------------------------------


def killed(script: str, *, before: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a script that raises SIGTERM in itself."""
    return subprocess.run(
        [sys.executable, "-c", f"import os, signal, sys\n{before}\n{PRELUDE}\n{script}"],
        env={k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


needs_signals = pytest.mark.skipif(os.name != "posix", reason="ends by signals are POSIX's")
RAISE = "os.kill(os.getpid(), signal.SIGTERM)\nimport time; time.sleep(20)\n"


@needs_signals
@pytest.mark.parametrize("opt_in", ["shutdown_on_sigterm=True", ""])
def test_a_process_that_the_signal_ends_still_ends_by_it(collector: Collector, opt_in: str) -> None:
    script = f"telemetry = configure(endpoint={collector.url!r}, {ALL}, {opt_in})\nchat()\n"
    ended = killed(script + RAISE)
    assert (ended.returncode, ended.stderr) == (-signal.SIGTERM, "")
    expected = {"completed": 1} if opt_in else {}
    assert Counter(collector.outcomes()) == collector.durations() == expected


@needs_signals
def test_a_handler_of_the_process_is_called_and_what_ends_later_is_sent_too(
    collector: Collector,
) -> None:
    ended = killed(
        f"""
telemetry = configure(endpoint={collector.url!r}, {ALL}, shutdown_on_sigterm=True)
chat()
os.kill(os.getpid(), signal.SIGTERM)
chat()
tell("served on")
""",
        before="signal.signal(signal.SIGTERM, lambda *_: print('stopping', flush=True))",
    )
    assert ended.stdout.splitlines() == ["stopping", '"served on"']
    assert (ended.returncode, ended.stderr) == (0, "")
    assert Counter(collector.outcomes()) == {"completed": 2} == collector.durations()


@needs_signals
def test_a_signal_that_is_ignored_stays_ignored(collector: Collector) -> None:
    ended = killed(
        f"""
configure(endpoint={collector.url!r}, {ALL}, shutdown_on_sigterm=True)
tell(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
""",
        before="signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    )
    assert (ended.stdout, ended.stderr) == ("true\n", "")


@needs_signals
def test_another_thread_cannot_set_the_handler_and_says_so(collector: Collector) -> None:
    ended = killed(
        f"""
import threading
thread = threading.Thread(
    target=configure,
    kwargs=dict(endpoint={collector.url!r}, shutdown_on_sigterm=True, {ALL}),
)
thread.start(); thread.join()
tell(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    )
    assert ended.stdout == "true\n"
    assert "call configure() in the main thread" in ended.stderr


@needs_signals
def test_two_telemetries_share_one_handler(collector: Collector) -> None:
    ended = killed(
        f"""
for _ in range(2):
    configure(endpoint={collector.url!r}, {ALL}, shutdown_on_sigterm=True)
chat()
{RAISE}
"""
    )
    assert ended.returncode == -signal.SIGTERM
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


@needs_signals
def test_a_thread_that_holds_a_lock_when_the_signal_comes_loses_nothing(
    collector: Collector,
) -> None:
    ended = killed(
        f"""
telemetry = configure(endpoint={collector.url!r}, shutdown_timeout=30, {ALL}, shutdown_on_sigterm=True)
chat()
import threading, time
lock = threading.Lock()
def read(options):
    with lock:
        return []
metrics.get_meter("app").create_observable_gauge("g", callbacks=[read])
with lock:
    os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGTERM, "")
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


@needs_signals
def test_a_program_that_reaches_its_end_meanwhile_ends_by_the_signal(collector: Collector) -> None:
    collector.delay = 1.5
    ended = killed(
        f"""
configure(endpoint={collector.url!r}, shutdown_timeout=30, {ALL}, shutdown_on_sigterm=True)
chat()
os.kill(os.getpid(), signal.SIGTERM)
"""
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGTERM, "")
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


@needs_signals
def test_a_signal_in_the_middle_of_calls_ends_the_process(collector: Collector) -> None:
    """The thread may hold any lock when the signal comes."""
    ended = killed(
        f"""
import threading
configure(endpoint={collector.url!r}, shutdown_timeout=30, {ALL}, shutdown_on_sigterm=True)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
while True:
    chat()
""",
        OTEL_BSP_MAX_QUEUE_SIZE="100000",
        OTEL_BLRP_MAX_QUEUE_SIZE="100000",
    )
    assert ended.returncode == -signal.SIGTERM
    assert collector.durations()["completed"] > 0


@needs_signals
def test_a_signal_amid_a_shutdown_leaves_it_to_its_end(collector: Collector) -> None:
    """The handler waits for it, in the thread that asked for it."""
    collector.is_hanging = True
    ended = killed(
        f"""
import threading
telemetry = configure(endpoint={collector.url!r}, {ALL}, shutdown_on_sigterm=True)
chat()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
telemetry.shutdown()
""",
        **SHORT,
    )
    assert ended.returncode == -signal.SIGTERM
    [line] = ended.stderr.splitlines()
    assert line.startswith("not exported at shutdown: 1 span, 1 metric export, 1 log record to")


@needs_signals
@pytest.mark.parametrize(
    ("handler", "status"),
    [
        ("", -signal.SIGTERM),
        ("signal.signal(signal.SIGTERM, lambda *_: gevent.spawn_later(0.5, sys.exit, 3))", 3),
    ],
)
def test_under_gevent_a_handler_cannot_wait_and_the_process_ends_all_the_same(
    collector: Collector, handler: str, status: int
) -> None:
    """gevent calls it in its hub while all greenlets wait."""
    pytest.importorskip("gevent")
    ended = killed(
        f"""
import subprocess, time
configure(endpoint={collector.url!r}, {ALL}, shutdown_on_sigterm=True)
chat()
subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -TERM {{os.getpid()}}"])
time.sleep(60)
""",
        before=f"import gevent.monkey\ngevent.monkey.patch_all()\n{handler}",
    )
    assert (ended.returncode, ended.stderr) == (status, "")
    assert Counter(collector.outcomes()) == {"completed": 1} == collector.durations()


# --- what the lines say -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        (
            {"/v1/metrics": 404},
            "metrics cannot be exported to {}: HTTP status 404, so the server does not take metrics "
            "(Jaeger takes traces only); set OTEL_METRICS_EXPORTER=none, or name a collector in "
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT (1 metric export lost; further failures of this "
            "kind are not logged)",
        ),
        (
            {"/v1/traces": 404},
            "traces cannot be exported to {}: HTTP status 404, so this is no OTLP endpoint; check "
            "host, port and path; by HTTP a collector listens on port 4318 (1 span lost; further "
            "failures of this kind are not logged)",
        ),
        (
            {"/v1/traces": 401},
            "traces cannot be exported to {}: HTTP status 401, so credentials are missing or not "
            "accepted; give headers= to configure(), or set OTEL_EXPORTER_OTLP_HEADERS (1 span "
            "lost; further failures of this kind are not logged)",
        ),
        (
            {"/v1/logs": 400},
            "logs cannot be exported to {}: HTTP status 400 (1 log record lost; further failures "
            "of this kind are not logged)",
        ),
    ],
)
def test_a_failure_is_said_once_and_clearly(
    collector: Collector, statuses: dict[str, int], said: str
) -> None:
    collector.status_by_path = statuses
    ran = run(
        f"""
        telemetry = configure(endpoint={collector.url!r}, {ALL})
        for _ in range(3):
            chat()
            telemetry.flush()
        """
    )
    first, *others = ran.stderr.splitlines()
    assert first == said.format(collector.url)
    # At exit, the SDK exports metrics once more; nothing else is left.
    assert not others


def test_a_server_without_otlp_is_told_once_for_all_signals(collector: Collector) -> None:
    collector.status_by_path = dict.fromkeys(("/v1/traces", "/v1/metrics", "/v1/logs"), 404)
    ran = run(f"configure(endpoint={collector.url!r}, {ALL})\nchat()")
    assert ran.stderr == (
        f"not exported at shutdown: 1 span, 1 metric export, 1 log record to {collector.url} "
        "(HTTP status 404, so this is no OTLP endpoint; check host, port and path; by HTTP a "
        "collector listens on port 4318)\n"
    )


def test_a_web_page_is_no_success(collector: Collector) -> None:
    """The server of Jaeger's pages answers each path with one, and status 200."""
    collector.content_type = "text/html; charset=utf-8"
    ran = run(
        f"telemetry = configure(endpoint={collector.url!r})\nchat()\ntell(telemetry.flush())",
        OTEL_METRICS_EXPORTER="none",
    )
    assert ran.told == [False]
    assert ran.stderr == (
        f"traces cannot be exported to {collector.url}: a web page answers there, so this is no "
        "OTLP endpoint; check host, port and path; by HTTP a collector listens on port 4318 "
        "(1 span lost; further failures of this kind are not logged)\n"
    )


def test_a_session_of_the_user_stays() -> None:
    """The SDK makes it by a variable; it may sign requests."""
    variable = "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER"
    ended = killed("configure()", **{variable: "no-such-provider"})
    assert "no-such-provider" in ended.stderr


def test_an_outage_has_a_first_line_and_a_last_one(collector: Collector) -> None:
    collector.statuses = [400, 400, 200, 200, 400]
    ran = run(
        f"""
        telemetry = configure(endpoint={collector.url!r})
        for _ in range(5):
            chat()
            telemetry.flush()
        """,
        OTEL_METRICS_EXPORTER="none",
    )
    lines = [line.partition(collector.url)[0] + line[-60:] for line in ran.stderr.splitlines()]
    assert len(lines) == 3
    assert lines[0].startswith("traces cannot be exported to ")
    assert lines[1].endswith("again (2 spans lost meanwhile)")
    assert lines[2].startswith("traces cannot be exported to ")


def test_the_wrong_port_is_told() -> None:
    """HTTP sent to gRPC, which breaks the connection off."""
    with socket.create_server(("127.0.0.1", 0)) as grpc_like:
        import threading

        def reset() -> None:
            while True:
                try:
                    connection, _ = grpc_like.accept()
                except OSError:
                    return
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.recv(10)
                connection.close()

        thread = threading.Thread(target=reset)
        thread.start()
        port = grpc_like.getsockname()[1]
        # Time enough to see the connection break off, on a busy machine too.
        patient = {"OLLAMA_OTEL_SHUTDOWN_TIMEOUT": "10"}
        ran = run(f"configure(endpoint='http://127.0.0.1:{port}')\nchat()", **patient)
        grpc_like.shutdown(socket.SHUT_RDWR)
    thread.join()
    [line] = ran.stderr.splitlines()
    assert "the connection broke off; if gRPC is spoken there, as usual on port 4317" in line


def test_grpc_sent_to_http_is_told(collector: Collector) -> None:
    pytest.importorskip("grpc")
    patient = {"OLLAMA_OTEL_SHUTDOWN_TIMEOUT": "10"}
    ran = run(f"configure(endpoint={collector.url!r}, protocol='grpc')\nchat()", **patient)
    [line] = ran.stderr.splitlines()
    assert "no gRPC is spoken there; if HTTP is spoken there, as usual on port 4318" in line


def test_lines_of_exporters_that_are_not_ours_stay(collector: Collector) -> None:
    collector.status_by_path = {"/v1/traces": 400}
    ran = run(
        f"""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        telemetry = configure(endpoint={collector.url!r}, export_interval=3600)
        OTLPSpanExporter({collector.url + "/v1/traces"!r}).export([])
        """
    )
    assert "Failed to export" in ran.stderr


def test_an_export_that_succeeds_late_leaves_the_sdk_s_lines(collector: Collector) -> None:
    collector.statuses = [503]
    ran = run(
        f"""
        telemetry = configure(endpoint={collector.url!r})
        chat()
        tell(telemetry.flush())
        """,
        OTEL_METRICS_EXPORTER="none",
    )
    assert ran.told == [True]
    assert "Transient error Service Unavailable" in ran.stderr
    assert "cannot be exported" not in ran.stderr


def test_an_exporter_that_raises_is_a_failure_with_a_cause(collector: Collector) -> None:
    ran = run(
        f"""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        def broken(self, spans): raise ValueError("no way")
        OTLPSpanExporter.export = broken
        telemetry = configure(endpoint={collector.url!r})
        chat()
        tell(telemetry.flush())
        """,
        OTEL_METRICS_EXPORTER="none",
    )
    assert ran.told == [False]
    assert "traces cannot be exported" in ran.stderr
    assert "ValueError: no way" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_credentials_in_a_url_are_not_logged() -> None:
    ran = run("configure(endpoint='http://ada:secret@127.0.0.1:9')\nchat()", **SHORT)
    assert "secret" not in ran.stderr
    assert "127.0.0.1:9" in ran.stderr
