"""Runs the stack of a compose file with docker compose or podman compose."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import httpx

from ollama_otel._display import shell_command
from ollama_otel._monitoring import MonitoringError
from ollama_otel._monitoring.grafana_password import AdminPassword
from ollama_otel._monitoring.http_client import open_client

__all__ = [
    "SERVICES",
    "Compose",
    "NoEngineError",
    "Profile",
    "Service",
    "addresses",
    "find_compose",
    "wait_until_ready",
]

Profile = Literal["ollama", "loki"]

_PROFILES: Final[tuple[Profile, ...]] = ("ollama", "loki")
_LOGS: Final = "OLLAMA_OTEL_LOGS"
_CANDIDATES: Final = (
    # The program, and a command that fails if its engine does not run.
    (("docker", "compose"), ("docker", "info", "--format", "{{.ServerVersion}}")),
    (("podman", "compose"), ("podman", "info", "--format", "{{.Version.Version}}")),
    (("docker-compose",), ("docker", "info", "--format", "{{.ServerVersion}}")),
    (("podman-compose",), ("podman", "info", "--format", "{{.Version.Version}}")),
)
_PATIENCE: Final = 30.0
_PAUSE: Final = 0.5
_READY: Final = httpx.Timeout(3.0)


class NoEngineError(MonitoringError):
    """No container engine was found; the message says which were tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service of the stack."""

    name: str
    port: int
    """Inside its container."""
    ready: str
    """Path that responds with success once the service is ready."""
    title: str


SERVICES: Final = (
    Service(name="prometheus", port=9090, ready="/-/ready", title="Prometheus"),
    Service(name="jaeger", port=16686, ready="/", title="Jaeger"),
    Service(name="collector", port=13133, ready="/", title="Collector"),
    Service(name="grafana", port=3000, ready="/api/health", title="Grafana"),
)
"""The services that always run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compose:
    """A compose file and the program that runs it."""

    program: tuple[str, ...]
    file: Path
    variables: Mapping[str, str]
    """Environment of the subprocess."""

    def up(self, profiles: Sequence[Profile], password: AdminPassword) -> None:
        """Start the stack; output of the program goes to the terminal."""
        logs = {_LOGS: "loki"} if "loki" in profiles else {}
        variables = {**self.variables, **logs, **password.variables}
        self._run(self._command(profiles, "up", "--detach"), variables)

    def down(self, *, with_volumes: bool) -> None:
        """Stop all services of all profiles; `with_volumes` deletes their data, too."""
        more = ("--volumes",) if with_volumes else ()
        self._run(self._command(_PROFILES, "down", *more), self.variables)

    def address(self, service: Service) -> str | None:
        """Return the URL of a service on this machine; None if the file does not have it."""
        done = subprocess.run(  # noqa: S603 - the program was found on the user's own path
            self._command((), "port", service.name, str(service.port)),
            env=dict(self.variables),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        place = done.stdout.strip().splitlines()
        if done.returncode or not place or place[0].endswith(":0"):
            return None
        return f"http://{place[0].replace('0.0.0.0', '127.0.0.1')}"  # noqa: S104

    def shown(self, *words: str) -> str:
        """Return a compose command as typed in a shell."""
        return shell_command((*self.program, "-f", str(self.file), *words))

    def _command(self, profiles: Sequence[Profile], *words: str) -> list[str]:
        chosen = [word for profile in profiles for word in ("--profile", profile)]
        return [*self.program, "-f", str(self.file), *chosen, *words]

    def _run(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        done = subprocess.run(command, env=dict(variables), check=False)  # noqa: S603 - as above
        if done.returncode:
            raise MonitoringError(
                f"`{shell_command(command)}` ended with status {done.returncode}; its output "
                "is above. If a port is in use, stop the program that listens there, or change the "
                "port in a copy of the files: ollama-otel dashboards export"
            )


def find_compose(file: Path, variables: Mapping[str, str]) -> Compose:
    """Return a `Compose` for the file; raises `NoEngineError` if no engine can run it."""
    if not file.is_file():
        raise MonitoringError(f"no compose file {file}; omit --file to use the shipped one")
    tried: list[str] = []
    for program, engine in _CANDIDATES:
        problem = _problem(program, engine, variables)
        if problem is None:
            return Compose(program=program, file=file, variables=variables)
        tried.append(problem)
    raise NoEngineError(f"no container engine found: {'; '.join(dict.fromkeys(tried))}")


def wait_until_ready(
    places: Mapping[Service, str], *, seconds: float, on_ready: Callable[[Service, str], None]
) -> list[Service]:
    """Wait for all services; return those that were not ready within `seconds`."""
    deadline = time.monotonic() + seconds
    waiting = dict(places)
    while waiting:
        for service in [each for each, place in waiting.items() if _is_ready(each, place)]:
            on_ready(service, waiting.pop(service))
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)
    return list(waiting)


def addresses(compose: Compose) -> Iterator[tuple[Service, str]]:
    """Yield the services of the file and their URLs."""
    for service in SERVICES:
        if (place := compose.address(service)) is not None:
            yield service, place


def _is_ready(service: Service, place: str) -> bool:
    try:
        with open_client(place, timeout=_READY) as client:
            return client.get(service.ready).is_success
    except httpx.HTTPError:
        return False


def _problem(
    program: Sequence[str], engine: Sequence[str], variables: Mapping[str, str]
) -> str | None:
    """Return why a program cannot be used; None if it can."""
    shown = " ".join(program)
    if shutil.which(program[0], path=variables.get("PATH")) is None:
        return f"no {program[0]} on the PATH"
    if (said := _fails([*program, "version"], variables)) is not None:
        return f"`{shown} version` fails ({said})"
    if shutil.which(engine[0], path=variables.get("PATH")) is None:
        return f"{shown} found, but no {engine[0]}"
    if (said := _fails(engine, variables)) is not None:
        return f"{shown} found, but its engine does not respond ({said})"
    return None


def _fails(
    command: Sequence[str], variables: Mapping[str, str], *, patience: float = _PATIENCE
) -> str | None:
    """Return the first line of the error of a command; None if it succeeds."""
    try:
        done = subprocess.run(  # noqa: S603 - as above
            command,
            env=dict(variables),
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no response within {patience:g} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[0] if lines else f"status {done.returncode}"
