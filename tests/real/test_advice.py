"""Faults that are made on a real Ollama are found in the log of its calls."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_otel import Client, Settings, call_context
from ollama_otel._cli import main
from ollama_otel._telemetry.residency import residency_of
from ollama_otel._telemetry.truncation import worker
from ollama_otel.analysis import Advice, advise, open_log
from ollama_otel.replay import ReplayLog, read

from .servers import RealOllama

MODEL = "tiny-agent"
WORDS = ["river", "stone", "green", "walk", "cloud", "paper", "house", "light", "seven", "bread"]


def text(words: int, seed: int) -> str:
    chosen = random.Random(seed)
    return " ".join(chosen.choice(WORDS) for _ in range(words))


def ask(client: Client, content: str, *, keep_alive: Any = None, **options: Any) -> None:
    client.chat(
        MODEL,
        [{"role": "user", "content": content}],
        keep_alive=keep_alive,
        options={"num_ctx": 512, "num_predict": 4, **options},
    )


def mix_contexts(client: Client) -> None:
    for number in range(6):
        ask(client, f"Hello {number}", num_ctx=1024 if number % 2 else 512)


def let_it_go(client: Client) -> None:
    for number in range(5):
        ask(client, f"Hi {number}", keep_alive=0)
        # Until the server has unloaded it.
        time.sleep(0.6)


def leave_streams(client: Client) -> None:
    for number in range(4):
        stream = client.chat(
            MODEL,
            [{"role": "user", "content": f"Tell me story {number}"}],
            stream=True,
            options={"num_ctx": 512, "num_predict": 64},
        )
        next(iter(stream))
        stream.close()  # type: ignore[attr-defined]


def talk(client: Client, *, changes: bool) -> None:
    """Two conversations of five turns; the beginning of the prompt changes each time or never.

    The first prompt is long, so that reading it takes far longer than a busy machine waits.
    """
    for conversation in range(2):
        said: list[dict[str, str]] = []
        for turn in range(5):
            said.append({"role": "user", "content": text(20 if turn else 400, turn)})
            now = text(10, 100 * conversation + turn) if changes else "Be short."
            with call_context(conversation_id=f"c{conversation}"):
                answer = client.chat(
                    MODEL,
                    [{"role": "system", "content": now}, *said],
                    options={"num_ctx": 2048, "num_predict": 4},
                )
            said.append({"role": "assistant", "content": answer.message.content or ""})


@pytest.fixture
def advice(
    tmp_path_factory: pytest.TempPathFactory, cold_ollama: RealOllama
) -> Iterator[tuple[Path, dict[str, Advice]]]:
    log = tmp_path_factory.mktemp("advice") / "calls.jsonl"
    settings = Settings(
        truncation="confirm", residency=True, residency_interval=0.2, vocabulary_cache=None
    )
    with (
        ReplayLog(log, bodies=True) as observer,
        Client(cold_ollama.url, settings=settings, observers=[observer]) as client,
    ):
        mix_contexts(client)
        for number in range(2):
            ask(client, text(1500, number))
        for _ in range(6):
            ask(client, "What is the capital of France?", temperature=0)
        let_it_go(client)
        leave_streams(client)
        talk(client, changes=True)
        assert worker().drain(60)
    residency_of(settings).close()
    with open_log(log, cache=False) as calls:
        yield log, {found.kind: found for found in advise(calls, log=log).advice}


def test_each_fault_is_found(
    advice: tuple[Path, dict[str, Advice]], capsys: pytest.CaptureFixture[str]
) -> None:
    log, found = advice
    assert main(["advise", str(log), "--no-cache"]) == 0
    print(capsys.readouterr().out)
    assert found.keys() >= {
        *("mixed_num_ctx", "keep_alive_short", "prompt_cut", "same_prompt"),
        *("cancels_in_row", "model_on_cpu"),
    }
    assert "answer_runaway" not in found
    # A load takes far longer than a short answer of a tiny model.
    for kind in ("mixed_num_ctx", "keep_alive_short"):
        saves, median = found[kind].saves, found[kind].median
        assert saves is not None and median is not None
        assert saves > 0.3 * median
    assert found["same_prompt"].calls == 5
    assert found["cancels_in_row"].calls == 4
    assert found["prompt_cut"].calls == 2
    lost = turns_without_cache(log)
    assert (found["cache_broken"].calls if "cache_broken" in found else 0) == (
        lost if lost >= 3 else 0
    )
    assert found["model_on_cpu"].saves is None


def turns_without_cache(log: Path) -> int:
    """How many later turns the rule has to find, by the times that the server reported.

    All turns are read whole. On a busy machine the times vary, and fewer of them show it.
    """
    rates: dict[str, list[float]] = defaultdict(list)
    for call in read(log):
        conversation, response = call.record.start.context.conversation_id, call.record.response
        if conversation is not None:
            assert response.prompt_eval_duration is not None and response.input_tokens is not None
            rates[conversation].append(response.prompt_eval_duration / response.input_tokens)
    low, high = sorted(first for first, *_ in rates.values())
    whole = low + 0.9 * (high - low)  # the 90th percentile of two
    lost = [[rate > 0.5 * whole for rate in later] for _, *later in rates.values()]
    return sum(sum(each) for each in lost if sum(each) > 0.5 * len(each))


def test_calls_without_these_faults_get_no_advice(tmp_path: Path, cold_ollama: RealOllama) -> None:
    log = tmp_path / "calls.jsonl"
    with ReplayLog(log) as observer, Client(cold_ollama.url, observers=[observer]) as client:
        talk(client, changes=False)
    with open_log(log, cache=False) as calls:
        assert [found.kind for found in advise(calls).advice] == []
