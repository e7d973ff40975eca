"""The pytest plugin against a real Ollama: recorded once, played when it is gone."""

from __future__ import annotations

from collections.abc import Callable

import ollama
import pytest

# What is imported here is not imported anew by each run inside of this one.
import ollama_otel
from ollama_otel.replay import _tested

from .servers import RealOllama

pytest_plugins = ["pytester"]

IMPORTED = (ollama, ollama_otel.Client, _tested)
TEST = """
import ollama, ollama_otel, pytest

@pytest.mark.ollama_replay
def test_chat_stream_and_embed():
    hello = [{'role': 'user', 'content': 'Hello'}]
    brief = {'num_predict': 16, 'temperature': 0}
    with ollama_otel.Client(URL) as client:
        assert client.chat('tiny-agent', messages=hello, options=brief).message.content
        parts = list(client.chat('tiny-agent', messages=hello, options=brief, stream=True))
        assert parts[-1].eval_count
        vectors = client.embed('tiny-embed', input=['one', 'two']).embeddings
        assert len(vectors) == 2 and isinstance(vectors[0][0], float)
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the test with a server's address and a question."""
    monkeypatch.delenv("CI", raising=False)
    # Only ours, whether or not its entry point is installed here.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(url: str, *arguments: str, question: str = "Hello") -> pytest.RunResult:
        test = TEST.replace("Hello", question)
        pytester.makepyfile(test_app=f"URL = {url!r}\n{test}")
        return pytester.runpytest_inprocess("-p", "ollama_otel.pytest_plugin", *arguments)

    return run


def test_a_real_chat_stream_and_embedding_are_played_when_the_server_is_gone(
    real_ollama: RealOllama, run: Run, pytester: pytest.Pytester
) -> None:
    run(real_ollama.url).assert_outcomes(passed=1)
    cassette = pytester.path / "cassettes" / "test_app" / "test_chat_stream_and_embed.json"
    text = cassette.read_text(encoding="utf-8")
    assert '{"document": {"model":"tiny-agent"' in text
    assert '{"json": {"model":"tiny-agent"' in text
    run("http://127.0.0.1:9", "--ollama-strict").assert_outcomes(passed=1)
    changed = run("http://127.0.0.1:9", question="Goodbye")
    changed.assert_outcomes(failed=1)
    changed.stdout.fnmatch_lines(
        ["*the nearest was logged in *", "*content: logged 'Hello', asked 'Goodbye'*"]
    )


def test_in_ci_a_missing_cassette_is_told_and_nobody_is_asked(
    real_ollama: RealOllama, run: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(real_ollama.url)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pytest --ollama-record=once *test_chat_stream_and_embed*"])
    assert not (pytester.path / "cassettes").exists()
