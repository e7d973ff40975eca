"""The example `live_chat` in a real Chromium, on a real Ollama."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .servers import RealOllama
from .sites import PATIENCE, Site, serving

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "live_chat"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # No sandbox: in a container Chromium cannot set one up.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    assert not faults


@pytest.fixture(scope="module")
def site_without_ollama() -> Iterator[Site]:
    with serving(EXAMPLE, "app:app", "http://127.0.0.1:9", "tiny-agent") as site:
        yield site


def ask(page: Any, question: str) -> None:
    page.get_by_label("Question").fill(question)
    page.get_by_role("button", name="Send").click()


def ended(page: Any, number: int = 1) -> Any:
    """Wait for the end of an answer; return its article."""
    page.get_by_role("button", name="Send").wait_for()
    return page.locator("article").nth(number - 1)


def test_an_answer_comes_with_a_link_to_its_trace(real_ollama: RealOllama, page: Any) -> None:
    with serving(EXAMPLE, "app:app", real_ollama.url, "tiny-agent") as site:
        page.goto(site.url)
        ask(page, "Hello")
        article = ended(page)
        assert article.locator(".text").inner_text()
        assert re.search(r"\d+ tokens in [\d.]+ s", article.inner_text())
        link = article.get_by_role("link", name="trace").get_attribute("href")
        ask(page, "<b>bold</b>")
        assert "<b>bold</b>" in ended(page, 2).inner_text()
        site.stop()
        traces = {span.trace_id.hex() for _, span in site.collector._spans()}
        assert link.rpartition("/")[2] in traces


def test_tool_calls_are_shown_as_they_happen(real_ollama: RealOllama, page: Any) -> None:
    with serving(EXAMPLE, "app:app", real_ollama.url, "tiny-agent") as site:
        page.goto(site.url)
        ask(page, "What is the weather in Paris?")
        tools = ended(page).locator(".tool").all_inner_texts()
        assert tools == [
            'get_current_weather({"location":"Paris"})',
            "get_current_weather: succeeded: 18 °C, light rain",
        ]
        site.stop()
        names = [name for _, name in site.collector.spans()]
        assert "execute_tool get_current_weather" in names
        assert "invoke_agent live-chat" in names


def test_thinking_is_apart_from_the_answer(real_ollama: RealOllama, page: Any) -> None:
    with serving(EXAMPLE, "app:app", real_ollama.url, "tiny-thinker") as site:
        page.goto(site.url)
        ask(page, "Hello")
        article = ended(page)
        assert article.locator("details .text").inner_text()
        assert article.locator(":scope > .text").inner_text()


@pytest.mark.parametrize("leave", ["stop", "close"])
def test_leaving_an_answer_frees_the_server(
    real_ollama: RealOllama, browser: Any, leave: str
) -> None:
    """On a slow machine an answer may end before it is left, so several are."""
    shown = ""
    with serving(HERE, "endless_chat:app", real_ollama.url, "tiny-agent") as site:
        for _ in range(3):
            context = browser.new_context()
            page = context.new_page()
            page.set_default_timeout(PATIENCE * 1000)
            page.goto(site.url)
            ask(page, "Count.")
            page.locator("article > .text").wait_for()
            if leave == "close":
                page.close()
            else:
                stop(page)
                shown += ended(page).inner_text()
            context.close()
        # The server has one slot: it answers this once it has left the others.
        done = httpx.post(
            f"{real_ollama.url}/api/chat",
            json={
                "model": "tiny-agent",
                "messages": [{"role": "user", "content": "Hello"}],
                "stream": False,
            },
            timeout=PATIENCE,
            trust_env=False,
        )
        assert done.json()["done"]
        site.stop()
        assert {"abandoned", "cancelled"} & set(site.collector.outcomes())
        assert leave == "close" or "stopped" in shown


def stop(page: Any) -> None:
    """Press the button that stops an answer; it is gone when the answer has ended."""
    from playwright.sync_api import TimeoutError as NotShownError

    with suppress(NotShownError):
        page.get_by_role("button", name="Stop").click(timeout=2000)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("absent", "The model is not installed. `ollama pull absent` installs it.")],
)
def test_a_person_understands_what_is_wrong(
    real_ollama: RealOllama, page: Any, model: str, sentence: str
) -> None:
    with serving(EXAMPLE, "app:app", real_ollama.url, model) as site:
        page.goto(site.url)
        ask(page, "Hello")
        assert ended(page).locator(".error").inner_text() == sentence


def test_a_server_that_is_down_is_named(page: Any) -> None:
    with serving(EXAMPLE, "app:app", "http://127.0.0.1:9", "tiny-agent") as site:
        page.goto(site.url)
        ask(page, "Hello")
        said = ended(page).locator(".error").inner_text()
        assert said == "Ollama does not answer. Is it running? `ollama serve` starts it."
        site.stop()
        ask(page, "Hello")
        assert ended(page, 2).locator(".error").inner_text() == "This page cannot reach its server."


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no JSON", 400),
        (b"[]", 400),
        (b'{"conversation": "c"}', 400),
        (b'{"conversation": 1, "question": "Why?"}', 400),
        (b'{"conversation": "c", "question": " "}', 400),
        (b'{"conversation": "c", "question": "%s"}' % (b"x" * 20_001), 413),
    ],
)
def test_a_bad_request_is_refused_with_what_was_expected(
    site_without_ollama: Site, body: bytes, status: int
) -> None:
    answer = httpx.post(f"{site_without_ollama.url}/ask", content=body, trust_env=False)
    assert answer.status_code == status
    assert answer.json()["error"]
