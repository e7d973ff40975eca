"""The board of the runbook: what to do for each alert, from the sections of RUNBOOK.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from math import ceil
from pathlib import Path
from typing import Final, Literal

from dashboards.src.alerts import ALERTS
from dashboards.src.boards import agents, cost, latency, overview, server
from dashboards.src.layout import Board, Row
from dashboards.src.links import RUNBOOK
from dashboards.src.panels import Panel, note

_FILE: Final = Path(__file__).parent.parent.parent / "RUNBOOK.md"
_SECTION: Final = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")

Severity = Literal["critical", "warning", "info"]
_URGENCY: Final[Mapping[Severity, str]] = {
    "critical": "Critical: somebody has to act now",
    "warning": "Warning: act today",
    "info": "Info: act when there is time",
}
_BOARDS: Final = {
    each.BOARD.title: each.BOARD.uid for each in (agents, cost, latency, overview, server)
}

_CHARACTERS: Final = 95
"""In a line of a panel of half the width, on a screen of 1600 pixels."""
_LINE: Final = 22
_UNIT: Final = 38
"""Pixels of a line of text, and of a unit of the grid."""


def _sections() -> dict[str, str]:
    """Return the text of each section, by alert."""
    return dict(_SECTION.findall(_FILE.read_text(encoding="utf-8")))


def _alerts(severity: Severity) -> list[str]:
    return sorted(alert.name for alert in ALERTS if alert.severity == severity)


def _panel_numbers() -> dict[str, int]:
    """Return the number of each alert's panel: layout counts headings and panels, in order."""
    numbers, found = count(1), {}
    next(numbers)
    next(numbers)
    for severity in _URGENCY:
        next(numbers)
        found.update({name: next(numbers) for name in _alerts(severity)})
    return found


_NUMBERS: Final = _panel_numbers()


def _to_panel(name: str) -> str:
    return f"/d/{RUNBOOK}?viewPanel={_NUMBERS[name]}"


def _linked(text: str) -> str:
    """Return a section with links that work on a board: to panels, boards and other sites."""
    by_anchor = {f"#{name.lower()}": _to_panel(name) for name in _NUMBERS}

    def link(found: re.Match[str]) -> str:
        words, target = found.groups()
        target = by_anchor.get(target, target)
        # A file beside RUNBOOK.md has no address in Grafana.
        return f"[{words}]({target})" if target.startswith(("/d/", "https://")) else words

    text = _LINK.sub(link, text)
    for title, uid in _BOARDS.items():
        text = text.replace(f"*{title}*", f"[{title}](/d/{uid})")
    return text.strip()


def _height(text: str) -> int:
    """Return about how many units a section needs in half the width."""
    pixels = 50
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith(("|", "-", "1.")):
            rows = (ceil(len(line) / _CHARACTERS) for line in lines)
            pixels += sum(rows) * _LINE + 8 * len(lines)
        else:
            pixels += ceil(len(block) / _CHARACTERS) * _LINE + 14
    return ceil(pixels / _UNIT)


def _panels(severity: Severity) -> Sequence[Panel]:
    sections = _sections()
    found = [(name, _linked(sections[name])) for name in _alerts(severity)]
    placed: list[Panel] = []
    for index in range(0, len(found), 2):
        line = found[index : index + 2]
        height = max(_height(text) for _, text in line)
        placed += [note(name, text, width=24 // len(line), height=height) for name, text in line]
    return placed


def _contents() -> Panel:
    lines = [
        f"**{heading}:** " + ", ".join(f"[{name}]({_to_panel(name)})" for name in _alerts(severity))
        for severity, heading in _URGENCY.items()
    ]
    how = (
        "Each alert says what it means, how to verify it, and what to do. Run the queries in "
        "Prometheus; they use the recording rules. Run the searches by tag in Jaeger: select the "
        "service, then fill in *Tags*."
    )
    return note("Alerts", "\n\n".join([how, *lines]), height=6)


BOARD: Final = Board(
    uid=RUNBOOK,
    title="Ollama: runbook",
    description="What each alert means, how to verify it, and what to do.",
    variables=(),
    rows=(
        Row(title="Contents", panels=(_contents(),)),
        *(Row(title=heading, panels=_panels(each)) for each, heading in _URGENCY.items()),
    ),
)
