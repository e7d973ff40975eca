"""The page: safe with any log, small, complete without JavaScript, and accessible."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from ollama_otel.analysis import Report, open_log, report
from ollama_otel.analysis._report.call_table import LIMIT, VIEWS
from ollama_otel.analysis._report.definitions import DEFINITIONS
from ollama_otel.errors import AnalysisError
from tests.documents import blocks_of
from tests.log.event_lines import end, line

from . import story
from .pages import Element, parsed

DOCS = Path(__file__).parents[3] / "docs" / "report.md"
EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">\'"&\x1b[31m\u202e'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = story.write(tmp_path_factory.mktemp("log") / "calls.jsonl", calls=3000)
    with open_log(path, cache=False) as calls:
        return report(calls)


@pytest.fixture(scope="module")
def html(made: Report) -> str:
    return made.html()


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return parsed(html)


# --- hostile logs -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of a log in which every text is an attack."""
    folder = tmp_path_factory.mktemp("log")
    path = story.write(folder / "calls.jsonl", calls=400)
    with path.open(encoding="utf-8") as file:
        events = [json.loads(text) for text in file]
    for event in events:
        _poison(event)
    name = folder / "<b onclick=alert(3)>.jsonl"
    name.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    with open_log(name, cache=False) as calls:
        return report(calls).html()


def _poison(event: dict) -> None:
    if event["event"] == "request":
        number = int(event["id"], 16)
        event |= {"user_id": EVIL, "conversation_id": EVIL, "server": "h" + EVIL}
        event["tags"] = {EVIL: EVIL}
        event["request"]["model"] = f"{EVIL}{number % 3}"
        event["operation"] = EVIL
    else:
        response = event.get("response", {})
        response["model"] = EVIL
        response["tool_calls"] = [EVIL]
        if "error_type" in event:
            event |= {"error_type": EVIL, "error_message": EVIL}
        for section in event.values():
            if isinstance(section, dict):
                for key in ("reload_cause", "reload_before", "evicted_by", "kind"):
                    if key in section:
                        section[key] = EVIL
    event["id"] += EVIL


@pytest.mark.slow
def test_no_text_of_a_log_becomes_code(hostile: str) -> None:
    document = parsed(hostile)
    assert hostile.count("alert(1)") > 20, "the attack is on the page"
    assert not document.all("img")
    [script] = document.all("script")
    assert "alert" not in script.text
    for element in document.all():
        assert not any(name.startswith("on") for name in element.attributes)
        assert "style" not in element.attributes
    assert "\x1b" not in hostile
    assert "\u202e" not in hostile


@pytest.mark.slow
def test_links_stay_on_the_page(hostile: str) -> None:
    for element in parsed(hostile).all():
        for name in ("href", "src", "action", "xlink:href"):
            assert element.attributes.get(name, "#").startswith("#")
    assert not re.search(r"url\((?!#)", hostile)


@pytest.mark.slow
def test_the_policy_allows_exactly_the_code_of_the_page(page: Element) -> None:
    [policy] = [
        meta.attributes["content"]
        for meta in page.all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [element] = page.all(tag)
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


# --- size ---------------------------------------------------------------------------------


def _many_names(folder: Path) -> Path:
    """A log with long names, each of them once: users, models, tags, tools and errors."""
    path = folder / "calls.jsonl"
    story.write(path, calls=3000)
    with path.open(encoding="utf-8") as file:
        events = [json.loads(text) for text in file]
    for number, event in enumerate(events):
        long = f"{number}-" + "x" * 240
        if event["event"] == "request":
            event |= {"user_id": long, "tags": {f"k{number % 50}": long}}
            event["request"]["model"] = long
        elif "error_type" in event:
            event |= {"error_message": long}
        else:
            event.setdefault("response", {})["tool_calls"] = [long]
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return path


@pytest.mark.slow
def test_the_size_does_not_follow_the_log(tmp_path: Path, html: str) -> None:
    assert len(html.encode()) < 500_000
    with open_log(_many_names(tmp_path), cache=False) as calls:
        assert len(report(calls, is_quick=True).html().encode()) < 1_500_000


@pytest.mark.slow
def test_a_log_of_years_has_as_few_points(tmp_path: Path) -> None:
    path = story.write(tmp_path / "calls.jsonl", calls=2000, seconds=4 * 365 * 86400)
    with open_log(path, cache=False) as calls:
        found = report(calls, is_quick=True)
    for section in found.sections:
        for figure in section.figures:
            assert figure.plot is None or len(figure.plot.places) <= 121
            assert len(figure.table.rows) <= 121
    assert len(found.calls.rows) <= LIMIT * len(VIEWS)


# --- a page that everyone can read --------------------------------------------------------


@pytest.mark.slow
def test_ids_are_unique_and_links_lead_to_them(page: Element) -> None:
    ids = Counter(one.attributes["id"] for one in page.all() if "id" in one.attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    for link in page.all("a"):
        assert link.attributes["href"][1:] in ids, link.attributes["href"]
    for element in page.all():
        for name in element.attributes.get("aria-labelledby", "").split():
            assert name in ids


def test_headings_are_in_order(page: Element) -> None:
    levels = [int(heading.tag[1]) for heading in page.all("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_tables_have_captions_and_scopes(page: Element) -> None:
    tables = page.all("table")
    assert len(tables) > 10
    for table in tables:
        [caption] = table.all("caption")
        assert caption.text
        assert all(head.attributes["scope"] in {"col", "row"} for head in table.all("th"))
        rows = [len(row.children) for row in table.all("tr")]
        assert len(set(rows)) == 1, "every row has every column"


def test_plots_are_described_and_have_a_table(page: Element) -> None:
    figures = page.all("figure")
    plots = 0
    for figure in figures:
        assert figure.all("table"), figure.attributes["id"]
        for plot in figure.all("svg"):
            if plot.attributes.get("aria-hidden") == "true":
                continue
            plots += 1
            assert plot.attributes["role"] == "img"
            title, description = plot.children[:2]
            assert (title.tag, description.tag) == ("title", "desc")
            assert title.text
            assert description.text
    assert plots >= 8


def test_every_figure_and_number_has_its_definition(page: Element, made: Report) -> None:
    for figure in page.all("figure"):
        [caption] = figure.all("figcaption")
        expected = DEFINITIONS[figure.attributes["id"]].text.replace("`", "")
        assert caption.text == expected
    named = {one.attributes.get("id") for one in page.all("dt")}
    for name in [total.name for total in made.totals] + [one.measure for one in made.findings]:
        assert f"def-{name}" in named


def test_scrolling_regions_can_be_reached_by_keyboard(page: Element) -> None:
    for element in page.all("div"):
        if element.attributes.get("class") == "scroll":
            assert element.attributes["tabindex"] == "0"
            assert element.attributes["role"] == "region"
            assert element.attributes["aria-label"]


def test_the_page_says_its_language_and_its_maker(page: Element) -> None:
    [root] = page.all("html")
    assert root.attributes["lang"] == "en"
    [maker] = [meta for meta in page.all("meta") if meta.attributes.get("name") == "generator"]
    assert maker.attributes["content"] == "ollama-otel report"


# --- what is on it ------------------------------------------------------------------------


def test_the_page_opens_with_what_needs_attention_and_then_the_calls(page: Element) -> None:
    sections = [section.attributes["id"] for section in page.all("section")]
    assert sections == [
        *("attention", "calls", "latency", "tokens", "errors", "cold_starts", "cuts", "tools"),
        *("costs", "capacity", "advice", "definitions"),
    ]
    attention = page.all("section")[0]
    assert len(attention.all("li")) >= 7
    assert "Failed: " in attention.text


def test_saved_views_need_no_javascript(page: Element, html: str, made: Report) -> None:
    [table] = [one for one in page.all("table") if one.attributes.get("id") == "call-table"]
    rows = table.all("tr")[1:]
    assert len(rows) == len(made.calls.rows)
    for view in made.calls.views:
        shown = [row for row in rows if f"v-{view.name}" in row.attributes["class"].split()]
        assert 1 <= len(shown) <= LIMIT
        assert f"#view-{view.name}:target~.scroll .call:not(.v-{view.name}){{display:none}}" in html
    failed = [row for row in rows if "v-failed" in row.attributes["class"].split()]
    assert all("failed" in row.text for row in failed)


def test_a_call_can_be_found_again(page: Element, made: Report) -> None:
    [section] = [one for one in page.all("section") if one.attributes["id"] == "calls"]
    row = made.calls.rows[0]
    assert row.values["call_id"] in section.text
    assert row.values["trace_id"] in section.text
    assert "ollama-otel show" in section.text


def test_phases_add_up_to_the_duration(made: Report) -> None:
    [latency] = [section for section in made.sections if section.name == "latency"]
    figure = latency.figures[0]
    assert figure.name == "phases_by_model"
    assert [column.name for column in figure.table.columns][2:] == [
        "loading",
        "waiting for a slot",
        "prefill",
        "decode",
        "client",
    ]
    for _, _, *phases in figure.table.rows:
        assert 1 < sum(phases) < 60


def test_json_has_the_same_values(made: Report) -> None:
    values = json.loads(made.json())
    assert values["calls"]["total"] == 3000
    assert [one["kind"] for one in values["findings"]] == [one.kind for one in made.findings]
    figure = made.sections[0].figures[0]
    shown = values["sections"][0]["figures"][0]
    assert shown["name"] == figure.name
    assert [tuple(row) for row in shown["table"]["rows"]] == list(figure.table.rows)


# --- what a log lacks ---------------------------------------------------------------------


def logged(path: Path, *lines: bytes) -> Report:
    path.write_bytes(b"".join(lines))
    with open_log(path, cache=False) as calls:
        return report(calls)


@pytest.mark.slow
def test_what_is_unknown_is_said_and_not_shown_as_zero(tmp_path: Path) -> None:
    found = logged(tmp_path / "calls.jsonl", line(1))
    page = parsed(found.html())
    leads = {section.name: section.lead for section in found.sections}
    assert "No call has timings" in leads["latency"]
    assert leads["cold_starts"] == "Unknown: no call has a time of loading."
    assert "tools" not in leads
    values = {total.name: total.value for total in found.totals}
    assert values["duration_p50"] is None
    assert values["cold"] is None
    assert values["output_tokens"] is None
    assert "There are too few calls" in page.text
    [row] = found.calls.rows
    assert set(row.ranks) == {"no_end", "newest"}


@pytest.mark.slow
def test_a_failed_call_without_timings_is_in_the_table(tmp_path: Path) -> None:
    found = logged(
        tmp_path / "calls.jsonl", line(1), end(1, outcome="failed", error_type="connect")
    )
    assert "failed" in found.calls.rows[0].ranks
    [errors] = [section for section in found.sections if section.name == "errors"]
    assert [figure.name for figure in errors.figures][-1] == "errors_by_type"


@pytest.mark.slow
def test_few_calls_are_not_simulated(tmp_path: Path) -> None:
    with open_log(story.write(tmp_path / "calls.jsonl", calls=5), cache=False) as calls:
        found = report(calls)
    [section] = [section for section in found.sections if section.name == "capacity"]
    assert section.lead.startswith("Unknown: a forecast takes at least 10 calls to one server")
    assert section.figures == ()


@pytest.mark.slow
def test_no_calls_is_an_error(tmp_path: Path) -> None:
    path = story.write(tmp_path / "calls.jsonl", calls=5)
    with open_log(path, cache=False) as calls, pytest.raises(AnalysisError, match="no calls"):
        report(calls, since=datetime(2099, 1, 1))  # noqa: DTZ001 - times without a zone are in UTC


# --- the documentation --------------------------------------------------------------------


@pytest.mark.slow
def test_the_code_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    story.write(tmp_path / "calls.jsonl", calls=3000)
    [block] = blocks_of("report.md")
    names: dict[str, str] = {}
    exec(block, names)
    assert names["page"].startswith("<!doctype html>")
    assert capsys.readouterr().out.startswith("worse Failed: ")


def test_the_documentation_names_every_section(made: Report) -> None:
    text = DOCS.read_text(encoding="utf-8").lower()
    for section in made.sections:
        assert section.title.lower() in text
