"""The report in a real Chromium: with and without JavaScript, light, dark, narrow and on paper."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_otel.analysis import Report, open_log, report
from tests.analysis.report import story

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

CONTRAST = """
() => {
  const channel = (value) => {
    const part = value / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  };
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const faults = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || ["SCRIPT", "STYLE", "title", "desc"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const color = parse(element instanceof SVGElement ? style.fill : style.color);
    const [one, other] = [light(color), light(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) faults.add(`${element.tagName}.${element.className} ${contrast}`);
  }
  return [...faults];
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = story.write(tmp_path_factory.mktemp("log") / "calls.jsonl", calls=3000)
    with open_log(path, cache=False) as calls:
        return report(calls)


@pytest.fixture(scope="module")
def address(made: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(made.html(), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # No sandbox: in a container Chromium cannot set one up.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Any]:
    """Opens the page with options of a context; nothing may be reported or loaded."""
    contexts, faults = [], []

    def open_page(**options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.on("request", lambda request: request.url != address and faults.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def shown_calls(page: Any) -> int:
    return page.locator("#call-table tbody tr:visible").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(opened: Any, scheme: str) -> None:
    page = opened(color_scheme=scheme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("javascript", [True, False])
def test_a_saved_view_is_a_link(opened: Any, made: Report, javascript: bool) -> None:
    page = opened(java_script_enabled=javascript)
    everything = shown_calls(page)
    assert everything == len(made.calls.rows)
    page.get_by_role("link", name="Cold", exact=True).click()
    expected = sum("cold" in row.ranks for row in made.calls.rows)
    assert shown_calls(page) == expected < everything
    assert page.url.endswith("#view-cold")
    page.get_by_role("navigation", name="Views of the calls").get_by_text("All").click()
    assert shown_calls(page) == everything


def test_a_finding_leads_to_its_calls(opened: Any) -> None:
    page = opened()
    page.locator(".findings li", has_text="Failed").get_by_text("the calls").click()
    assert 0 < shown_calls(page) <= 25
    outcomes = page.locator("#call-table tbody tr:visible td:nth-child(4)").all_inner_texts()
    assert all(outcome.startswith("failed") for outcome in outcomes)


def test_without_javascript_nothing_is_missing(opened: Any, made: Report) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator("svg.plot").count() >= 8
    for section in made.sections:
        assert page.locator(f"#{section.name} h2").is_visible()
    page.locator("summary", has_text="Table: Duration over time").click()
    assert page.locator("#duration_over_time table").is_visible()


def test_the_table_is_sorted_and_filtered(opened: Any) -> None:
    page = opened()
    durations = page.locator("#call-table tbody tr:visible td:nth-child(5)")
    head = page.get_by_role("button", name="Duration")
    head.press("Enter")
    values = durations.evaluate_all("all => all.map((one) => one.dataset.v ?? null)")
    known = [float(value) for value in values if value is not None]
    assert known == sorted(known, reverse=True)
    assert None not in values[: len(known)], "what is unknown comes last"
    head.press("Enter")
    assert page.locator("th[aria-sort=ascending]").count() == 1
    everything = shown_calls(page)
    page.get_by_label("Filter").fill("qwen3 out_of_memory")
    assert 0 < shown_calls(page) < everything
    page.get_by_label("Filter").fill("nothing has this")
    assert shown_calls(page) == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_the_page_fits_its_window(opened: Any, width: int) -> None:
    page = opened(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_everything_can_be_reached_by_keyboard(opened: Any) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").is_visible()
    page.keyboard.press("Enter")
    assert page.url.endswith("#attention")


def test_on_paper_all_sections_are_there(opened: Any, made: Report) -> None:
    page = opened(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for section in made.sections:
        assert page.locator(f"#{section.name} h2").is_visible()
    assert page.get_by_text("On paper: the first 5 calls").is_visible()
    assert 10 <= shown_calls(page) <= 60
    paper = page.pdf(format="A4")
    pages = len(re.findall(rb"/Type\s*/Page\b", paper))
    assert 4 <= pages <= 20


def test_the_demo_ends_with_a_page_that_opens(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ollama_otel._cli.demo_run import demo_run_of
    from ollama_otel._cli.demo_server import scripted_server
    from ollama_otel.settings import Settings

    settings = Settings(replay_log=tmp_path / "calls.jsonl")
    with (
        scripted_server("a test", realtime=False) as server,
        demo_run_of(server, settings=settings) as run,
    ):
        for scenario in run.scenarios:
            run.play(scenario)
        path = run.report()
    assert path is not None
    page = browser.new_page()
    page.goto(path.as_uri())
    assert shown_calls(page) == 6
    assert page.locator("#attention").is_visible()
    page.close()
