"""A model is asked for once, and again if it may be another one under its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ollama_otel._tokens.directory import Directory, Question
from ollama_otel._tokens.model import ModelTokens
from ollama_otel._tokens.stored import StoredFacts

from .tables import show

URL = "http://127.0.0.1:11434"


class Server:
    """Answers the questions of a directory."""

    def __init__(self) -> None:
        self.digest: str | None = "a" * 64
        self.shown: Any = show()
        self.asked: list[str] = []

    def answer(self, question: Question) -> Any:
        self.asked.append(question.path)
        if question.path == "/api/show":
            assert question.body == {"model": "m", "verbose": True}
            return self.shown
        return {"models": [{"name": "m:latest", "digest": self.digest}]}

    def find(self, directory: Directory) -> ModelTokens:
        steps, answer = directory.find(URL, "m"), None
        try:
            while True:
                answer = self.answer(steps.send(answer))
        except StopIteration as end:
            found: ModelTokens = end.value
            return found


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_model_is_asked_for_once() -> None:
    server, directory = Server(), Directory()
    assert directory.known(URL, "m") is None
    found = server.find(directory)
    assert found.facts.vocabulary is not None
    assert server.find(directory) is found
    assert directory.known(URL, "M:latest") is found
    assert server.asked == ["/api/tags", "/api/show"]


def test_after_a_while_only_the_digest_is_asked_for() -> None:
    server, clock = Server(), Clock()
    directory = Directory(clock=clock)
    found = server.find(directory)
    clock.now += 301
    assert directory.known(URL, "m") is None
    assert server.find(directory) is found
    assert directory.known(URL, "m") is found
    assert server.asked == ["/api/tags", "/api/show", "/api/tags"]


def test_a_model_with_another_digest_is_another_model() -> None:
    server, clock = Server(), Clock()
    directory = Directory(clock=clock)
    found = server.find(directory)
    clock.now += 301
    server.digest = "b" * 64
    assert server.find(directory) is not found
    assert directory.known(URL, "m") is not found


def test_a_server_that_does_not_say_is_asked_again_after_a_minute() -> None:
    server, clock = Server(), Clock()
    server.shown = None
    directory = Directory(clock=clock)
    assert server.find(directory).facts.vocabulary is None
    server.shown = show()
    assert server.find(directory).facts.vocabulary is None
    clock.now += 61
    assert server.find(directory).facts.vocabulary is not None


def test_what_is_stored_is_not_asked_for(tmp_path: Path) -> None:
    first, second = Server(), Server()
    first.find(Directory(StoredFacts(tmp_path)))
    found = second.find(Directory(StoredFacts(tmp_path)))
    assert found.facts.num_ctx == 64
    assert second.asked == ["/api/tags"]


def test_a_model_without_a_digest_is_not_stored(tmp_path: Path) -> None:
    server = Server()
    server.digest = "../x"
    server.find(Directory(StoredFacts(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_models_are_bounded() -> None:
    server, directory = Server(), Directory()
    for number in range(100):
        steps, answer = directory.find(f"{URL}/{number}", "m"), None
        try:
            while True:
                answer = server.answer(steps.send(answer))
        except StopIteration:
            pass
    known = [directory.known(f"{URL}/{number}", "m") is not None for number in range(100)]
    assert sum(known) == 64
    assert known[-1]
