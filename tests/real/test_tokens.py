"""Counts of tokens against what a real server reports."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from ollama_otel import Client, Settings
from ollama_otel._telemetry.truncation import directory_of

from .gguf import with_split
from .servers import MODELS, RealOllama, UnexpectedAnswerError, ask
from .token_counts import SIGNS, exact_counts, texts

QUIET = Settings(vocabulary_cache=None)


@pytest.mark.timeout(900)
def test_exact_counts_are_those_of_the_server(real_ollama: RealOllama) -> None:
    found = [each for each in exact_counts(real_ollama) if each.count.tier == "exact"]
    assert len(found) >= 250
    assert {each.kind for each in found} == {"text", "chat"}
    assert [each for each in found if each.error] == []


@pytest.mark.parametrize("split", ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o"])
@pytest.mark.timeout(900)
def test_every_split_is_that_of_the_engine(real_ollama: RealOllama, split: str) -> None:
    name = f"split-{split}"
    _create(real_ollama.url, name, with_split((MODELS / "tiny-agent.gguf").read_bytes(), split))
    order = random.Random(split)
    prompts = [*("".join(order.choices(SIGNS, k=40)) for _ in range(24)), *list(texts())[-4:]]
    try:
        with Client(real_ollama.url, settings=QUIET) as client:
            for prompt in prompts:
                count = client.count_tokens(name, prompt)
                answer = client.generate(name, prompt, raw=True, options={"num_predict": 1})
                assert (count.tokens, count.tier) == (answer.prompt_eval_count, "exact"), prompt
    finally:
        real_ollama.delete(name)


def test_a_rendered_prompt_is_exact_with_tools(real_ollama: RealOllama) -> None:
    def multiply(a: int, b: int) -> int:
        """Multiply two numbers."""
        return a * b

    messages = [{"role": "user", "content": "What is 3 * 4?"}]
    with Client(real_ollama.url, settings=QUIET) as client:
        count = client.count_tokens("tiny-agent", messages, tools=[multiply], render=True)
        answer = client.chat("tiny-agent", messages, tools=[multiply])
    assert (count.tokens, count.tier) == (answer.prompt_eval_count, "exact")


def test_a_vocabulary_is_stored_by_its_digest(real_ollama: RealOllama, tmp_path: Path) -> None:
    settings = Settings(vocabulary_cache=tmp_path)
    with Client(real_ollama.url, settings=settings) as client:
        client.count_tokens("tiny-agent", "Hello")
    [stored] = tmp_path.iterdir()
    rows = ask("GET", f"{real_ollama.url}/api/tags")["models"]
    [digest] = [row["digest"] for row in rows if row["name"] == "tiny-agent:latest"]
    assert stored.stem == digest
    assert directory_of(settings).known(real_ollama.url, "tiny-agent") is not None


def _create(url: str, name: str, file: bytes) -> None:
    digest = f"sha256:{hashlib.sha256(file).hexdigest()}"
    try:
        ask("HEAD", f"{url}/api/blobs/{digest}")
    except UnexpectedAnswerError:
        ask("POST", f"{url}/api/blobs/{digest}", file)
    body = {
        "model": name,
        "files": {"model.gguf": digest},
        "template": "{{ .Prompt }}",
        "parameters": {"num_ctx": 1024, "temperature": 0},
        "stream": False,
    }
    ask("POST", f"{url}/api/create", body)
