"""Ollama with its real engine, and the models in `models/`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processes import (
    UnexpectedAnswerError,
    ask,
    free_ports,
    installed,
    last_lines,
    running,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODELS = Path(__file__).parents[1] / "models"
MODEL_NAMES = ("tiny-agent", "tiny-thinker", "tiny-embed")


class StuckServerWarning(UserWarning):
    """An Ollama server no longer completed anything; the message shows its engines and its log."""


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
        return [model["name"] for model in ask("GET", f"{self.url}/api/ps")["models"]]

    def unload_all(self) -> None:
        """Free every model, so that the next call to it is a cold one."""

        def is_empty() -> bool:
            loaded = self.loaded()
            for name in loaded:
                # The kind of model does not matter: an empty prompt with a `keep_alive` of 0 unloads any.
                ask("POST", f"{self.url}/api/generate", {"model": name, "keep_alive": 0})
            return not loaded

        wait_until(is_empty, f"{self.url} to unload its models", seconds=30)

    def delete(self, name: str) -> None:
        """Delete a model that may be in memory.

        It is unloaded first: a deleted model stays in memory, and its name can no longer unload it.
        """
        ask("POST", f"{self.url}/api/generate", {"model": name, "keep_alive": 0})
        ask("DELETE", f"{self.url}/api/delete", {"model": name})

    def answers(self, *, seconds: float) -> bool:
        """Whether every model in memory still answers a prompt; none is loaded or reloaded to see it."""
        for model in ask("GET", f"{self.url}/api/ps")["models"]:
            options = {"num_predict": 1, "num_ctx": model["context_length"]}
            body = {"model": model["name"], "prompt": "Hello", "stream": False, "options": options}
            try:
                ask("POST", f"{self.url}/api/generate", body, seconds=seconds)
            except UnexpectedAnswerError:
                continue  # an embedding model refuses, which is an answer too
            except TimeoutError:
                return False
        return True

    def recover(self, *, seconds: float) -> None:
        """Unload all models, with a warning, if one of them does not answer.

        A stream that its client left early can keep its slot until the model is unloaded, and with
        one slot every later completion waits: https://github.com/ollama/ollama/issues/17131.
        """
        if self.answers(seconds=seconds):
            return
        message = (
            f"{self.url} did not complete one token in {seconds:g} s; its models were unloaded.\n"
            f"Its engines:\n{self._engine_states()}\nIts log ends:\n{last_lines(self.log)}"
        )
        self.unload_all()
        warnings.warn(message, StuckServerWarning, stacklevel=2)

    def _engine_states(self) -> str:
        pids = ",".join(map(str, self.engine_pids()))
        listed = subprocess.run(
            ["ps", "-o", "pid,stat,time,command", "-p", pids],
            capture_output=True,
            text=True,
            check=False,
        )
        return listed.stdout

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
        wait_until(
            lambda: set(killed).isdisjoint(self.engine_pids()), "the engine to be gone", seconds=10
        )


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
    binary = installed("ollama")
    store = models or folder / "models"
    log = folder / "ollama.log"
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    chosen = port or free_ports(1)[0]
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
    with running([str(binary), "serve"], settings, log, f"{url}/api/version") as process:
        version = ask("GET", f"{url}/api/version")["version"]
        yield RealOllama(
            url=url,
            host="127.0.0.1",
            port=chosen,
            version=version,
            pid=process.pid,
            models=store,
            log=log,
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
        ask("HEAD", blob)
    except UnexpectedAnswerError:
        ask("POST", blob, source.read_bytes())
    body = {"model": name, "files": {source.name: digest}, "stream": False, **definition}
    ask("POST", f"{url}/api/create", body)


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
