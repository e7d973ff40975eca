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
from tests.drawing.page_server import Answers, serve_page

Theme = Literal["dark", "light"]

_PROVISIONED = Path(__file__).parents[2] / "dashboards/grafana/provisioning/datasources"
_SCREEN = {"width": 1600, "height": 900}
_TALLEST = 8000
"""Pixels; Chromium makes no larger pictures."""
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

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium
        self._interval = scrape_interval()

    def draw(self, board: Mapping[str, Any], answers: Answers, view: View, pictures: Path) -> Drawn:
        """Draw a board; `pictures` is the path of the whole picture, without its suffix."""
        pictures.parent.mkdir(parents=True, exist_ok=True)
        with serve_page(board, answers) as url:
            console: list[str] = []
            first = self._photograph(
                url, view, "closed", pictures.with_name(f"{pictures.name}-first-screen"), console
            )
            whole = self._photograph(url, view, "open", pictures, console)
        return Drawn(facts=whole, first_screen=first, console=tuple(dict.fromkeys(console)))

    def _photograph(
        self, url: str, view: View, rows: str, picture: Path, console: list[str]
    ) -> dict[str, Any]:
        query = {
            "from": round(view.began * 1000),
            "to": round(view.ended * 1000),
            "vars": json.dumps(view.variables),
            "theme": view.theme,
            "interval": self._interval,
            "rows": rows,
            "width": _SCREEN["width"],
        }
        tab = self._chromium.new_page(viewport=_SCREEN)
        try:
            tab.on("pageerror", lambda error: console.append(f"{error.message[:300]}"))
            tab.on("console", lambda said: _note(said, console))
            tab.goto(f"{url}/?{urlencode(query)}")
            tab.wait_for_function("window.drawing", timeout=_PATIENCE)
            drawing = tab.evaluate("window.drawing")
            if "error" in drawing:
                raise DrawingError(drawing["error"])
            if rows == "open":
                tall = tab.evaluate("document.documentElement.scrollHeight")
                tab.set_viewport_size({**_SCREEN, "height": min(tall, _TALLEST)})
                tab.wait_for_timeout(300)
            tab.screenshot(path=picture.with_name(f"{picture.name}.png"))
            facts: dict[str, Any] = drawing["facts"]
            return facts
        finally:
            tab.close()


class DrawingError(Exception):
    """The page failed before it had drawn the board; the message shows where."""


def _note(said: Any, console: list[str]) -> None:
    # React's advice on the use of components concerns Grafana's own.
    if said.type == "error" and not said.text.startswith("Warning:"):
        console.append(said.text[:300])


@contextlib.contextmanager
def start_drawer() -> Iterator[Drawer]:
    """Start a Chromium."""
    from playwright.sync_api import sync_playwright

    program = browser()
    with sync_playwright() as playwright:
        # No sandbox: in a container Chromium cannot set one up.
        chromium = playwright.chromium.launch(
            executable_path=str(program), args=["--no-sandbox", "--disable-gpu"]
        )
        yield Drawer(chromium)
        chromium.close()


def scrape_interval() -> str:
    """Return the interval of the data source that we provide, the least step of a query."""
    [file] = _PROVISIONED.glob("*.y*ml")
    sources = yaml.safe_load(file.read_text())["datasources"]
    interval: str = next(
        each["jsonData"]["timeInterval"] for each in sources if each["type"] == "prometheus"
    )
    return interval
