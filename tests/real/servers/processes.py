"""Processes of servers, and asking them over HTTP: what every kind of server shares."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.real.install import component_of, find_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 2.0
"""Ollama takes a tenth of that; Jaeger 1.76 does not end by itself."""


class ServerNotInstalledError(Exception):
    """The server is not on this machine; the message says how to install it."""


class ServerStartError(Exception):
    """The server ended, or stayed silent; the message shows the end of its log."""


class UnexpectedAnswerError(Exception):
    """A server answered with a failure; the message shows it."""


def installed(name: str) -> Path:
    """The program, or an error that says how to install it."""
    binary = find_server(name)
    if binary is None:
        component = component_of(name).name
        message = f"The real {name} is not installed; run: python tests/real/install.py {component}"
        raise ServerNotInstalledError(message)
    return binary


def ask(
    method: str,
    url: str,
    body: bytes | dict[str, Any] | None = None,
    *,
    seconds: float = 60.0,
) -> Any:
    """What a server answers, read as JSON; None for an empty answer.

    Not through httpx, so that a test which instruments httpx does not find these calls among its own.
    """
    address = urlsplit(url)
    sent = json.dumps(body).encode() if isinstance(body, dict) else body
    with contextlib.closing(HTTPConnection(address.netloc, timeout=seconds)) as connection:
        connection.request(method, url.removeprefix(f"http://{address.netloc}"), sent)
        answer = connection.getresponse()
        received = answer.read()
    if answer.status >= HTTPStatus.BAD_REQUEST:
        message = f"{method} {url} was answered {answer.status} {received.decode(errors='replace')}"
        raise UnexpectedAnswerError(message)
    return json.loads(received) if received else None


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on; held together for a moment, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(
    command: list[str],
    settings: Mapping[str, str],
    log: Path,
    ready: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own, from its first answer at `ready` to the end of its last process."""
    if _is_answered(ready):
        message = f"Another server answers at {ready} already"
        raise ServerStartError(message)
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OLLAMA_", "OTEL_")) and not key.lower().endswith("_proxy")
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=inherited | dict(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for_answer(process, ready, log)
        yield process
    finally:
        _stop_group(process)


def _is_answered(url: str) -> bool:
    try:
        ask("GET", url, seconds=1)
    except (OSError, HTTPException, UnexpectedAnswerError):
        return False
    return True


def _wait_for_answer(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            message = f"{process.args!r} ended with status {process.returncode}:\n{last_lines(log)}"
            raise ServerStartError(message)
        return _is_answered(ready)

    try:
        wait_until(answers, f"an answer at {ready}", seconds=START_SECONDS)
    except TimeoutError as error:
        message = f"{error}; the log ends:\n{last_lines(log)}"
        raise ServerStartError(message) from error


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop, then end whatever is left of its group, engines included."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    # macOS says "permission" of a group that has ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_lines(log: Path) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def wait_until(is_so: Callable[[], bool], what: str, *, seconds: float) -> None:
    """Come back once it is so; `TimeoutError` says what was waited for."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            message = f"Waited {seconds:g} s in vain for {what}"
            raise TimeoutError(message)
        time.sleep(0.05)
