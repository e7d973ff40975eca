"""Start and stop real servers: what the fixtures and the recorder of bodies share.

Knows how to run Ollama and Jaeger on free ports and what to ask them; knows nothing of pytest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from .install import find_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MODELS = Path(__file__).with_name("models")
MODEL_NAMES = ("tiny-agent", "tiny-thinker", "tiny-embed")

START_SECONDS = 60.0
STOP_SECONDS = 2.0
"""Ollama takes a tenth of that; Jaeger 1.76 does not end by itself."""


class ServerNotInstalledError(Exception):
    """The server is not on this machine; the message says how to install it."""


class ServerStartError(Exception):
    """The server ended, or stayed silent; the message shows the end of its log."""


class UnexpectedAnswerError(Exception):
    """A server answered with a failure; the message shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealOllama:
    """A running Ollama server."""

    url: str
    """`http://127.0.0.1:PORT`, without a slash at the end."""
    host: str
    port: int
    version: str
    pid: int
    models: Path
    """Its models folder, which may be lent to a further server."""
    log: Path

    def loaded(self) -> list[str]:
        """The models in memory now, by name with tag."""
        return [model["name"] for model in _ask("GET", f"{self.url}/api/ps")["models"]]

    def unload_all(self) -> None:
        """Free every model, so that the next call to it is a cold one."""

        def is_empty() -> bool:
            loaded = self.loaded()
            for name in loaded:
                # The kind of model does not matter: an empty prompt with a `keep_alive` of 0 unloads any.
                _ask("POST", f"{self.url}/api/generate", {"model": name, "keep_alive": 0})
            return not loaded

        _wait_until(is_empty, f"{self.url} to unload its models", seconds=30)

    def engine_pids(self) -> list[int]:
        """The processes of its engine, one for each loaded model; kill one to see an engine crash."""
        # The same command on Linux and macOS.
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        pairs = (line.split() for line in listed.stdout.splitlines())
        return [int(pid) for pid, parent in pairs if int(parent) == self.pid]

    def kill_engine(self) -> None:
        """End its engine as a crash would, and wait until the server has noticed."""
        killed = self.engine_pids()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        _wait_until(
            lambda: set(killed).isdisjoint(self.engine_pids()), "the engine to be gone", seconds=10
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RealJaeger:
    """A running Jaeger, storing traces in memory."""

    otlp_http: str
    """`http://127.0.0.1:PORT`, to which an exporter adds `/v1/traces`."""
    otlp_grpc: str
    """`http://127.0.0.1:PORT`."""
    query: str
    """`http://127.0.0.1:PORT`, the root of the query API."""
    pid: int

    def services(self) -> list[str]:
        """The names of the services that have sent spans."""
        return _ask("GET", f"{self.query}/api/services")["data"] or []

    def traces(
        self, service: str, *, spans: int = 1, seconds: float = 10.0
    ) -> list[dict[str, Any]]:
        """The traces of a service as Jaeger's JSON, once they hold at least so many spans in all.

        Jaeger looks back two days by default, so spans need real times.
        """
        found: list[dict[str, Any]] = []

        def has_arrived() -> bool:
            asked = urlencode({"service": service, "limit": 1000})
            found[:] = _ask("GET", f"{self.query}/api/traces?{asked}")["data"] or []
            return sum(len(trace["spans"]) for trace in found) >= spans

        _wait_until(has_arrived, f"{spans} spans of {service!r} in Jaeger", seconds=seconds)
        return found


@contextlib.contextmanager
def run_ollama(
    folder: Path,
    *,
    models: Path | None = None,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[RealOllama]:
    """Run an Ollama server with nothing of the user's: no home, no models, no settings, no proxy.

    One server's `models` may be lent to another; by default it has its own.
    """
    binary = _installed("ollama")
    store = models or folder / "models"
    log = folder / "ollama.log"
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    chosen = port or _free_ports(1)[0]
    url = f"http://127.0.0.1:{chosen}"
    settings = {
        "HOME": str(home),
        "OLLAMA_HOST": f"127.0.0.1:{chosen}",
        "OLLAMA_MODELS": str(store),
        "OLLAMA_NOPRUNE": "1",  # a server that starts must not tidy away what another is creating
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NUM_PARALLEL": "1",
        **(environment or {}),
    }
    with _running([str(binary), "serve"], settings, log, f"{url}/api/version") as process:
        version = _ask("GET", f"{url}/api/version")["version"]
        yield RealOllama(
            url=url,
            host="127.0.0.1",
            port=chosen,
            version=version,
            pid=process.pid,
            models=store,
            log=log,
        )


@contextlib.contextmanager
def run_jaeger(folder: Path) -> Iterator[RealJaeger]:
    """Run a Jaeger that keeps traces in memory."""
    binary = _installed("jaeger")
    folder.mkdir(parents=True, exist_ok=True)
    otlp_http, otlp_grpc, query, query_grpc = _free_ports(4)
    config = folder / "jaeger.json"
    # JSON is YAML too.
    config.write_text(json.dumps(_jaeger_config(otlp_http, otlp_grpc, query, query_grpc), indent=2))
    ready = f"http://127.0.0.1:{query}/api/services"
    with _running([str(binary), f"--config={config}"], {}, folder / "jaeger.log", ready) as process:
        yield RealJaeger(
            otlp_http=f"http://127.0.0.1:{otlp_http}",
            otlp_grpc=f"http://127.0.0.1:{otlp_grpc}",
            query=f"http://127.0.0.1:{query}",
            pid=process.pid,
        )


def create_models(url: str) -> None:
    """Give a server the three models in `models/`."""
    for name in MODEL_NAMES:
        create_model(url, name)


def create_model(url: str, name: str) -> None:
    """Create one model over HTTP, as its Modelfile says."""
    source, definition = read_modelfile(MODELS / f"{name}.Modelfile")
    digest = f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"
    blob = f"{url}/api/blobs/{digest}"
    # Ask first: to a blob that it has, the server answers before it reads, and the sender sees a broken pipe.
    try:
        _ask("HEAD", blob)
    except UnexpectedAnswerError:
        _ask("POST", blob, source.read_bytes())
    body = {"model": name, "files": {source.name: digest}, "stream": False, **definition}
    _ask("POST", f"{url}/api/create", body)


def read_modelfile(path: Path) -> tuple[Path, dict[str, Any]]:
    """The weights a Modelfile names, and the rest of it as fields for `/api/create`."""
    text = path.read_text()
    weights = re.search(r"^FROM (\S+)$", text, re.MULTILINE)
    if weights is None:
        message = f"{path} names no weights: expected a line `FROM ./FILE`"
        raise ValueError(message)
    definition: dict[str, Any] = {}
    if template := re.search(r'^TEMPLATE """(.*?)"""$', text, re.MULTILINE | re.DOTALL):
        definition["template"] = template[1]
    parameters = dict(re.findall(r"^PARAMETER (\S+) (.+)$", text, re.MULTILINE))
    if parameters:
        definition["parameters"] = {
            key: [value] if key == "stop" else json.loads(value)
            for key, value in parameters.items()
        }
    return path.parent / weights[1], definition


def _jaeger_config(otlp_http: int, otlp_grpc: int, query: int, query_grpc: int) -> dict[str, Any]:
    def at(port: int) -> dict[str, str]:
        return {"endpoint": f"127.0.0.1:{port}"}

    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}
            },
            "telemetry": {"metrics": {"level": "none"}},
        },
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 100_000}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": at(query),
                "grpc": at(query_grpc),
            },
        },
        "receivers": {"otlp": {"protocols": {"http": at(otlp_http), "grpc": at(otlp_grpc)}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
    }


def _installed(name: str) -> Path:
    binary = find_server(name)
    if binary is None:
        message = f"The real {name} is not installed; run: python tests/real/install.py {name}"
        raise ServerNotInstalledError(message)
    return binary


def _ask(
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


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on; held together for a moment, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def _running(
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
        _ask("GET", url, seconds=1)
    except (OSError, HTTPException, UnexpectedAnswerError):
        return False
    return True


def _wait_for_answer(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            message = (
                f"{process.args!r} ended with status {process.returncode}:\n{_last_lines(log)}"
            )
            raise ServerStartError(message)
        return _is_answered(ready)

    try:
        _wait_until(answers, f"an answer at {ready}", seconds=START_SECONDS)
    except TimeoutError as error:
        message = f"{error}; the log ends:\n{_last_lines(log)}"
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


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _wait_until(is_so: Callable[[], bool], what: str, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            message = f"Waited {seconds:g} s in vain for {what}"
            raise TimeoutError(message)
        time.sleep(0.05)
