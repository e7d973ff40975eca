"""A fork creates nothing of ours that takes a lock another thread may have held at the fork.

`ssl.SSLContext` is such a thing: a child that is forked while a thread creates one may wait for a
lock of OpenSSL forever. Threads, connections and clients of ours start at the child's first call;
only those start earlier that wait for the child's end.
"""

from __future__ import annotations

import os

import pytest

from .scripts import run_script

COUNT_CONTEXTS = """
import ssl

made = []
create = ssl.SSLContext.__new__

def counting(cls, *arguments, **options):
    made.append(cls)
    return create(cls, *arguments, **options)

ssl.SSLContext.__new__ = counting
"""


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_fork_makes_no_tls_context_no_thread_and_no_connection(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    log = tmp_path_factory.mktemp("log") / "calls.jsonl"
    said = run_script(
        f"""
        import os, sys, threading, time, warnings
        from ollama_otel import Client, OllamaInstrumentor, configure
        from ollama_otel.residency import Residency
        from ollama_otel.testing import FakeOllama
        {COUNT_CONTEXTS.replace(chr(10), chr(10) + " " * 8)}
        warnings.simplefilter("ignore")
        os.environ["OTEL_TRACES_EXPORTER"] = os.environ["OTEL_METRICS_EXPORTER"] = "none"
        configure(residency=True, replay_log=sys.argv[1])
        OllamaInstrumentor().instrument()
        residency = Residency(interval=0.05)
        with FakeOllama().serve() as url:
            client = Client(url)
            client.chat("llama3.2", messages=[{{"role": "user", "content": "Hello"}}])
            residency.watch("https://127.0.0.1:9")
            residency.watch(url)
            while not (residency.state(url).is_up and residency.state("https://127.0.0.1:9").is_up
                       is False):
                time.sleep(0.01)
            time.sleep(0.5)
            before, ours = len(made), {{t for t in threading.enumerate() if "ollama" in t.name}}
            assert ours
            child = os.fork()
            if child == 0:
                time.sleep(0.2)
                print("contexts", len(made) - before, flush=True)
                names = [t.name for t in threading.enumerate()][1:]
                print("threads", [n for n in names if "shutdown of" not in n], flush=True)
                client.chat("llama3.2", messages=[{{"role": "user", "content": "Hello"}}])
                print("called", len(made) - before, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            residency.close()
            OllamaInstrumentor().uninstrument()
        """,
        str(log),
    )
    lines = [line for line in said.splitlines() if line.startswith(("contexts", "threads", "call"))]
    assert lines == ["contexts 0", "threads []", "called 0"]


@pytest.mark.processes
def test_polling_makes_no_tls_context_for_http_and_one_for_https() -> None:
    said = run_script(
        f"""
        from ollama_otel.residency._http import Connection, UnreachableError
        from ollama_otel.testing import FakeOllama
        {COUNT_CONTEXTS.replace(chr(10), chr(10) + " " * 8)}
        with FakeOllama().serve() as url:
            plain, tls = Connection(url, 5.0), Connection("https://127.0.0.1:9", 5.0)
            for _ in range(3):
                assert plain.get("/api/ps").status == 200
                plain.drop()
                try:
                    tls.get("/api/ps")
                except UnreachableError:
                    pass
            plain.close()
            print(len(made))
        """
    )
    assert said == "1\n"
