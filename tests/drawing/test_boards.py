"""Each board, drawn of each scenario, shows what it should."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drawing.boards import boards
from tests.drawing.conftest import do_without
from tests.drawing.drawing import Drawer, View
from tests.drawing.excuses import EXCUSES
from tests.drawing.findings import findings
from tests.drawing.page_server import answers_of
from tests.drawing.scenarios import Filled, filled
from tests.real.servers import ServerNotInstalledError

PICTURES = Path(os.environ.get("OLLAMA_OTEL_BOARD_PICTURES") or "build/boards")
CASES = [
    ("rich", "native", "dark"),
    ("rich", "native", "light"),
    ("rich", "classic", "dark"),
    ("many", "native", "dark"),
    ("plain", "native", "dark"),
    ("first_minute", "native", "dark"),
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Fill a Prometheus with a scenario, once."""
    with contextlib.ExitStack() as stack:
        held: dict[tuple[str, str], Filled] = {}

        def fill(scenario: str, kind: str) -> Filled:
            if (scenario, kind) not in held:
                folder = tmp_path_factory.mktemp(scenario)
                try:
                    context = filled(scenario, folder, classic=kind == "classic")
                    held[scenario, kind] = stack.enter_context(context)
                except ServerNotInstalledError as error:
                    do_without(error)
            return held[scenario, kind]

        yield fill


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
@pytest.mark.parametrize(("scenario", "kind", "theme"), CASES, ids=str)
def test_a_board_shows_what_it_should(
    drawer: Drawer, kept: Any, board: dict[str, Any], scenario: str, kind: str, theme: Any
) -> None:
    held = kept(scenario, kind)
    view = View(began=held.began, ended=held.ended, variables=held.variables, theme=theme)
    name = scenario if kind == "native" else f"{scenario}-{kind}"
    picture = PICTURES / f"{board['uid']}-{name}-{theme}"
    drawn = drawer.draw(board, answers_of(held.prometheus.url), view, picture)
    found = findings(drawn, EXCUSES if scenario == "rich" else None)
    assert not found, "\n".join([f"{picture}.png", *map(str, found)])
