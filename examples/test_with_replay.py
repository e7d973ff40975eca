"""A test that asks a model once, and never again.

    pip install ollama_otel pytest
    pytest examples/test_with_replay.py

It passes without an Ollama: the calls are in cassettes/test_with_replay, which is committed.
With one, `pytest --ollama-record=all examples/test_with_replay.py` records them anew; name a
model that you have.
"""

import pytest

from ollama_otel import Client

MODEL = "tiny-agent"


def greeting(name: str) -> str:
    """Stands for your app."""
    question = {"role": "user", "content": f"Greet {name} in a few words."}
    options = {"num_predict": 24, "temperature": 0}
    with Client() as client:
        parts = client.chat(MODEL, messages=[question], options=options, stream=True)
        return "".join(part.message.content or "" for part in parts)


@pytest.mark.ollama_replay
def test_a_greeting_is_said() -> None:
    assert greeting("Ada").strip()
