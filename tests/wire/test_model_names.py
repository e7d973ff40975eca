"""All spellings of a model's name are one name."""

from __future__ import annotations

import pytest

from ollama_otel._wire.model_names import full_name, key_of, short_name


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("llama3.2:1b", "llama3.2:1b"),
        ("library/llama3.2", "llama3.2:latest"),
        ("registry.ollama.ai/library/llama3.2", "llama3.2:latest"),
        ("hf.co/someone/model", "hf.co/someone/model:latest"),
        ("host:5000/someone/model", "host:5000/someone/model:latest"),
    ],
)
def test_a_name_without_a_tag_is_the_latest(name: str, full: str) -> None:
    assert full_name(name) == full
    assert key_of(
        name.upper()
        .replace("LIBRARY", "library")
        .replace("REGISTRY.OLLAMA.AI", "registry.ollama.ai")
    ) == key_of(full)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("llama3.2:latest", "llama3.2"),
        ("llama3.2:1b", "llama3.2:1b"),
        ("host:5000/someone/model:latest", "host:5000/someone/model"),
        ("", ""),
    ],
)
def test_a_short_name_lacks_the_tag_that_the_server_adds(name: str, short: str) -> None:
    assert short_name(name) == short
