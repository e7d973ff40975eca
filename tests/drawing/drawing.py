"""Draws boards: a picture of the first screen, one of the whole board, and what they show as values."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import yaml

from tests.drawing.installation import browser
from tests.drawing.page_server import Answers, PageServer, serve_page

Theme = Literal["dark", "light"]

_PROVISIONED = Path(__file__).parents[2] / "dashboards/grafana/provisioning/datasources"
_SCREEN = {"width": 1600, "height": 900}
_TALLEST = 8000
"""Pixels; Chromium makes no larger pictures."""
_PART = 1100
"""Pixels of a board in one part."""
_PATIENCE = 120_000.0
"""Milliseconds for the queries of a board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What one board shows; see `page/src/facts.js`."""

    facts: dict[str, Any]
    """Of the whole board, with its rows open."""
    first_screen: dict[str, Any]
    """Of the board as it opens."""
    console: tuple[str, ...]
    """What the page reported as errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a person has selected."""

    began: float
    """Seconds since the epoch."""
    ended: float
    variables: Mapping[str, str | list[str]]
    theme: Theme = "dark"


class Drawer:
    """Draws boards in one Chromium."""

    def __init__(self, context: Any, server: PageServer, *, in_parts: bool = False) -> None:
        self._context = context
        self._server = server
        self._in_parts = in_parts
        self._interval = scrape_interval()

    def draw(self, board: Mapping[str, Any], answers: Answers, view: View, picture: Path) -> Drawn:
        """Draw a board; `picture` is the path of the whole picture, without its suffix."""
        picture.parent.mkdir(parents=True, exist_ok=True)
        self._server.show(board, answers)
        console: list[str] = []
        tab = self._context.new_page()
        try:
            tab.on("response", lambda got: _note_missing(got, console))
            tab.on("pageerror", lambda error: console.append(error.message[:300]))
            tab.on("console", lambda said: _note(said, console))
            tab.goto(f"{self._server.url}/?{self._query(view)}")
            first = _drawn(tab)
            tab.screenshot(path=picture.with_name(f"{picture.name}-first-screen.png"))
            whole = first
            if any(panel.get("collapsed") for panel in board["panels"]):
                tab.evaluate("window.openRows()")
                whole = _drawn(tab)
            self._photograph_all(tab, picture)
        finally:
            tab.close()
        return Drawn(facts=whole, first_screen=first, console=tuple(dict.fromkeys(console)))

    def _query(self, view: View) -> str:
        return urlencode(
            {
                "from": round(view.began * 1000),
                "to": round(view.ended * 1000),
                "vars": json.dumps(view.variables),
                "theme": view.theme,
                "interval": self._interval,
                "width": _SCREEN["width"],
            }
        )

    def _photograph_all(self, tab: Any, picture: Path) -> None:
        tall = min(tab.evaluate("document.documentElement.scrollHeight"), _TALLEST)
        tab.set_viewport_size({**_SCREEN, "height": tall})
        tab.screenshot(path=picture.with_name(f"{picture.name}.png"))
        if self._in_parts:
            # Viewers show them without shrinking them.
            for number, top in enumerate(range(0, tall, _PART), 1):
                clip = {
                    "x": 0,
                    "y": top,
                    "width": _SCREEN["width"],
                    "height": min(_PART, tall - top),
                }
                tab.screenshot(
                    path=picture.with_name(f"{picture.name}-part{number}.png"), clip=clip
                )


def _drawn(tab: Any) -> dict[str, Any]:
    """Wait until the page has drawn the board; return what it shows."""
    tab.wait_for_function("window.drawing", timeout=_PATIENCE)
    drawing: dict[str, Any] = tab.evaluate("window.drawing")
    if "error" in drawing:
        raise DrawingError(drawing["error"])
    facts: dict[str, Any] = drawing["facts"]
    return facts


class DrawingError(Exception):
    """The page failed before it had drawn the board; the message shows where."""


def _note(said: Any, console: list[str]) -> None:
    # React's advice on the use of components concerns Grafana's own.
    is_of_resource = said.text.startswith("Failed to load resource")
    if said.type == "error" and not is_of_resource and not said.text.startswith("Warning:"):
        console.append(said.text[:300])


def _note_missing(response: Any, console: list[str]) -> None:
    if response.status >= 400 and "/api/v1/" not in response.url:
        console.append(f"{response.status} {response.url.partition('//')[2].partition('/')[2]}")


@contextlib.contextmanager
def start_drawer(*, in_parts: bool = False) -> Iterator[Drawer]:
    """Start a Chromium."""
    from playwright.sync_api import sync_playwright

    program = browser()
    with serve_page() as server, sync_playwright() as playwright:
        # No sandbox: in a container Chromium cannot set one up.
        chromium = playwright.chromium.launch(
            executable_path=str(program), args=["--no-sandbox", "--disable-gpu"]
        )
        yield Drawer(chromium.new_context(viewport=_SCREEN), server, in_parts=in_parts)
        chromium.close()


def scrape_interval() -> str:
    """Return the interval of the data source that we provide, the least step of a query."""
    [file] = _PROVISIONED.glob("*.y*ml")
    sources = yaml.safe_load(file.read_text())["datasources"]
    interval: str = next(
        each["jsonData"]["timeInterval"] for each in sources if each["type"] == "prometheus"
    )
    return interval
