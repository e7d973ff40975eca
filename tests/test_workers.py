"""An app in several workers of a real gunicorn: what `configure` does before and after the fork."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_otel.testing import FakeModel, FakeOllama
from tests.documents import blocks_of

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "gunicorn_workers.py"
APP = """
import os
from ollama_otel import Client, configure

{at_import}
client = Client()

def app(environ, start_response):
    client.chat("m", messages=[{{"role": "user", "content": "Hello"}}])
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""
COUNT = "gen_ai_client_operation_duration_seconds_count"

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs forks"),
    pytest.mark.processes,
    pytest.mark.sockets,
]


class Workers:
    """A running gunicorn."""

    def __init__(self, bind: str, errors: Path, process: subprocess.Popen[bytes]) -> None:
        self.bind = bind
        self._errors = errors
        self._process = process

    def reload(self) -> None:
        """Let gunicorn replace all workers."""
        self._process.send_signal(signal.SIGHUP)

    @property
    def log(self) -> list[str]:
        return self._errors.read_text(encoding="utf-8").splitlines()

    def until_booted(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while sum("Booting worker" in line for line in self.log) < count or not self.answers():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(self.bind.split(":"), timeout=5).close()  # type: ignore[arg-type]
            return True
        return False

    def ask(self) -> str:
        with urllib.request.urlopen(f"http://{self.bind}/?Hello", timeout=60) as answer:
            return answer.read().decode()

    def ask_all(self, count: int) -> int:
        """Ask until this number of workers has answered; return the number of calls."""
        seen, calls = set(), 0
        deadline = time.monotonic() + 60
        while len(seen) < count:
            assert time.monotonic() < deadline, self.log
            seen.add(self.ask())
            calls += 1
        return calls


def free_ports(count: int) -> int:
    """Return the first of a row of free ports."""
    for first in range(20_000, 32_000, 16):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports")


def served(port: int) -> list[float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return []
    return [float(n) for n in re.findall(rf"^{COUNT}\{{.*\}} (.*)$", text, re.MULTILINE)] or [0]


@contextlib.contextmanager
def gunicorn(folder: Path, *arguments: str, bind: str, **environ: str) -> Iterator[Workers]:
    fake = FakeOllama([FakeModel("m"), FakeModel("llama3.2")])
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    errors = folder / "errors.txt"
    with fake.serve() as url, errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--graceful-timeout", "5", *arguments],
            cwd=folder,
            env=clean | {"OLLAMA_HOST": url, "OTEL_TRACES_EXPORTER": "none"} | environ,
            stderr=file,
        )
        try:
            yield Workers(bind, errors, process)
        finally:
            process.terminate()
            process.wait(30)


def app_in(folder: Path, *, at_import: str = "", config: str = "") -> None:
    (folder / "app.py").write_text(APP.format(at_import=at_import), encoding="utf-8")
    (folder / "gunicorn.conf.py").write_text(textwrap.dedent(config), encoding="utf-8")


def warnings(workers: Workers, text: str) -> list[str]:
    return [line for line in workers.log if text in line]


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_the_example_serves_each_worker_on_a_port_of_its_own(
    tmp_path: Path, preload: list[str]
) -> None:
    first = free_ports(5)
    bind = f"127.0.0.1:{first + 4}"
    arguments = ["--config", str(EXAMPLE), "--chdir", str(EXAMPLE.parent), *preload]
    with gunicorn(
        tmp_path,
        *arguments,
        "gunicorn_workers:app",
        bind=bind,
        BIND=bind,
        FIRST_PORT=str(first),
    ) as workers:
        workers.until_booted(2)
        assert workers.ask()
        workers.ask()
        deadline = time.monotonic() + 60
        while sum(map(len, map(served, (first, first + 1)))) < 2:
            assert time.monotonic() < deadline, workers.log
            time.sleep(0.05)
        assert sum(served(first) + served(first + 1)) == 2
        assert warnings(workers, "Prometheus") == []


def test_the_example_goes_on_after_a_reload(tmp_path: Path) -> None:
    first = free_ports(5)
    bind = f"127.0.0.1:{first + 4}"
    arguments = ["--config", str(EXAMPLE), "--chdir", str(EXAMPLE.parent), "gunicorn_workers:app"]
    environ = {"BIND": bind, "FIRST_PORT": str(first)}
    with gunicorn(tmp_path, *arguments, bind=bind, **environ) as workers:
        workers.until_booted(2)
        for booted in (4, 6):
            workers.reload()
            workers.until_booted(booted)
            deadline = time.monotonic() + 60
            while [bool(served(port)) for port in range(first, first + 4)].count(True) != 2:
                assert time.monotonic() < deadline, workers.log
                time.sleep(0.05)
        assert workers.ask()
        assert warnings(workers, "Prometheus") == []
        assert warnings(workers, "Traceback") == []


def test_the_page_shows_the_examples_as_they_are() -> None:
    of_gunicorn, of_celery = blocks_of("workers.md")
    assert of_gunicorn in EXAMPLE.read_text(encoding="utf-8")
    assert of_celery in EXAMPLE.with_name("celery_worker.py").read_text(encoding="utf-8")


def test_workers_that_want_one_port_all_run_and_the_second_says_that_it_is_taken(
    tmp_path: Path,
) -> None:
    first = free_ports(2)
    bind = f"127.0.0.1:{first + 1}"
    app_in(tmp_path, at_import=f'configure(prometheus="127.0.0.1:{first}")')
    with gunicorn(tmp_path, "--workers=2", f"--bind={bind}", "app:app", bind=bind) as workers:
        workers.until_booted(2)
        workers.ask_all(2)
        (line,) = warnings(workers, "metrics are not served to Prometheus")
        assert "another process has the port, perhaps another worker of this app" in line
        assert warnings(workers, "Traceback") == []


@pytest.mark.parametrize("hook", ["post_fork", "post_worker_init"])
def test_preloaded_and_configured_again_in_the_worker_each_is_served(
    tmp_path: Path, hook: str
) -> None:
    first = free_ports(4)
    bind = f"127.0.0.1:{first + 3}"
    arguments = "server, worker" if hook == "post_fork" else "worker"
    app_in(
        tmp_path,
        at_import=f'configure(prometheus="127.0.0.1:{first}")',
        config=f"""
        def {hook}({arguments}):
            from ollama_otel import configure
            configure(prometheus=f"127.0.0.1:{{{first} + worker.age}}")
        """,
    )
    with gunicorn(
        tmp_path, "--preload", "--workers=2", f"--bind={bind}", "app:app", bind=bind
    ) as workers:
        workers.until_booted(2)
        calls = workers.ask_all(2)
        assert served(first) == [0], "the parent makes no calls"
        each = [served(first + 1), served(first + 2)]
        assert all(each), workers.log
        assert sum(map(sum, each)) == calls
        assert min(map(sum, each)) > 0
        assert warnings(workers, "Prometheus") == []


def test_preloaded_and_not_configured_in_the_worker_each_says_so_once(tmp_path: Path) -> None:
    first = free_ports(2)
    bind = f"127.0.0.1:{first + 1}"
    app_in(tmp_path, at_import=f'configure(prometheus="127.0.0.1:{first}")')
    with gunicorn(
        tmp_path, "--preload", "--workers=2", f"--bind={bind}", "app:app", bind=bind
    ) as workers:
        workers.until_booted(2)
        assert warnings(workers, "are not served") == [], "no call was made yet"
        workers.ask_all(2)
        workers.ask_all(2)
        assert len(warnings(workers, "of this forked process are not served")) == 2
