"""The reference pages are what the tables in the code say, and links lead somewhere."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest

from ollama_otel import _names as names
from ollama_otel._cli.load import add_arguments
from ollama_otel._exchange.agent_runs import RunEnding
from ollama_otel._facts import FACTS, Fact, FactTable
from ollama_otel._telemetry import instruments as rows
from ollama_otel._wire.failures import ERROR_TYPES
from ollama_otel.load import StopReason
from ollama_otel.records import Outcome
from ollama_otel.settings import ClientDefaults, Profile
from ollama_otel.settings._rows import rows_of
from ollama_otel.settings._settings import keywords
from ollama_otel.testing import FakeOllama
from ollama_otel.tools import Agent
from tests.documents import DOCS, ROOT, blocks_of, run_block
from tests.generated import REFERENCE, generate

from .collector import collecting

BLOCKS = blocks_of("agents.md")
"""Of the page on agents; `test_workers.py` runs those of the other page."""
OF_CHAT = {"client", "model", "tools", "think", "keep_alive"}
"""Parameters of an agent that are as in a chat."""
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "dashboards").glob("*.md")),
    ROOT / "examples" / "README.md",
    ROOT / "ollama_otel" / "replay" / "FORMAT.md",
    *sorted(DOCS.rglob("*.md")),
]


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(generate.PAGES))
def test_a_reference_page_is_what_the_tables_say(name: str) -> None:
    assert page(name) == generate.PAGES[name](), "run `python docs/generate.py`"


def test_every_page_of_the_reference_is_generated() -> None:
    found = {path for path in REFERENCE.rglob("*") if path.is_file()}
    assert {path.relative_to(REFERENCE).as_posix() for path in found} == set(generate.PAGES)


@pytest.mark.slow
def test_the_check_names_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `python docs/generate.py --check` says, and what it does without the option."""
    copy = tmp_path / "reference"
    shutil.copytree(REFERENCE, copy)
    monkeypatch.setattr(generate, "REFERENCE", copy)
    assert generate.main(["--check"]) == 0
    (copy / "errors.md").unlink()
    (copy / "cli.md").write_text("old")
    (copy / "api" / "gone.md").write_text("of a module that is gone")
    assert generate.main(["--check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        f"reference/{name}" for name in ("api/gone.md", "cli.md", "errors.md")
    ]
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_a_new_fact_is_on_the_page() -> None:
    fact = Fact(
        path="start.endpoint.method",
        type="text",
        source="request",
        sentence="A new thing that is known.",
        attribute="ollama.new",
        key="new",
        column="new",
    )
    assert "A new thing that is known." in generate.facts_page(FactTable((*FACTS.rows, fact)))


def test_every_setting_and_variable_is_listed() -> None:
    settings = page("settings.md")
    for row in (*keywords().values(), *rows_of(ClientDefaults)):
        assert f"| `{row.keyword}` |" in settings
        assert row.variable is None or f"`{row.variable}`" in settings


def test_every_name_that_is_sent_is_listed() -> None:
    full = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and value.startswith(("gen_ai.", "ollama."))
    }
    written = set(re.findall(r"`([\w.]+)`", page("facts.md") + page("metrics.md")))
    written |= set(re.findall(r"[\w.]+", " ".join(re.findall(r"`([\w., *]+)`", page("facts.md")))))
    shortened = {
        f"{prefix}.{short.lstrip('.')}"
        for prefix in ("gen_ai.request", "ollama.request", "ollama.response")
        for short in written
        if short.startswith(".")
    }
    not_on_calls = {
        names.REQUEST_PREFIX,
        names.TAG_PREFIX,
        names.DETAILS_EVENT,
        names.EXCEPTION_EVENT,
        names.PROVIDER,
    }
    assert full - not_on_calls - written - shortened == set()


def test_every_metric_and_error_type_is_listed() -> None:
    metrics = page("metrics.md")
    for profile in get_args(Profile):
        assert all(f"| `{row.name}` |" in metrics for row in rows.instruments_of(profile))
    assert all(f"| `{error_type}` |" in page("errors.md") for error_type in ERROR_TYPES)
    assert all(f"`{phase}`" in metrics for phase in rows.PHASES)
    assert all(f"`{outcome}`" in page("facts.md") for outcome in get_args(Outcome))


def test_the_index_lists_every_page() -> None:
    """A page that is not in `docs/README.md` is not found; those below an index of its own are."""
    index = DOCS / "README.md"
    links = re.findall(r"\]\(([^)#\s]+)\)", index.read_text(encoding="utf-8"))
    listed = [(DOCS / link).resolve() for link in links]
    assert len(set(listed)) == len(listed)
    below = REFERENCE / "api"
    pages = {path for path in PAGES if path.parent != below or path.name == "README.md"}
    # The project's own README is the page before this one.
    assert {path.relative_to(ROOT) for path in pages - {*listed}} == {
        Path("README.md"),
        Path("docs/README.md"),
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = target.partition("#")
        if place.startswith(("http:", "https:")):
            continue
        file = path if not place else (path.parent / place).resolve()
        assert file.exists(), f"{path.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {
                re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings
            }
            assert anchor in slugs, f"{path.name} links to {target}"


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_about_agents_runs(code: str) -> None:
    with FakeOllama().serve() as url, collecting() as sink:
        environment = {
            "OLLAMA_HOST": url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OLLAMA_OTEL_AUTO_CONFIGURE": "true",
        }
        done = run_block(code, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
        assert any(name.startswith("invoke_agent") for _, name in sink.spans())


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("code", blocks_of("load.md"))
def test_every_block_about_load_runs(code: str) -> None:
    with FakeOllama().serve() as url:
        done = run_block(code, OLLAMA_HOST=url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("finished ")


def test_the_page_on_load_lists_every_end_and_option() -> None:
    text = (DOCS / "load.md").read_text(encoding="utf-8")
    for end in get_args(StopReason):
        assert f"`{end}`" in text
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = {option for action in parser._actions for option in action.option_strings[-1:]}
    for option in options - {"--help", "--host", "--no-color"}:
        assert option in text, option


def test_the_page_on_agents_lists_every_ending_and_setting() -> None:
    text = (DOCS / "agents.md").read_text(encoding="utf-8")
    for ending in get_args(RunEnding):
        assert f"`{ending}`" in text
    for setting in inspect.signature(Agent).parameters.keys() - OF_CHAT:
        assert re.search(rf"\b{setting}\b", text), setting
