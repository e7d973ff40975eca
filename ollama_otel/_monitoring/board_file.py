"""Reads the JSON file of a Grafana board: panels, their queries, and variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ollama_otel._monitoring import MonitoringError

__all__ = ["BoardFile", "BoardPanel", "PanelQuery", "Timing", "read_board_file"]

_SPECIAL: Final = re.compile(r"[\\^$*+?.()|{}\[\]]")
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)|\[\[(\w+)\]\]")
_SAMPLES_OF_A_RATE: Final = 4
"""As Grafana does: `$__rate_interval` is at least four times the sample interval."""
_EVERYTHING: Final = ".*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What Grafana computes its built-in variables from, in seconds."""

    range: int
    step: int
    interval: int
    """Time between two samples; Grafana takes it from the data source."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Grafana's built-in variables."""
        rate = max(self.step + self.interval, _SAMPLES_OF_A_RATE * self.interval)
        # The boards allow no points that are closer than samples.
        distance = max(self.step, self.interval)
        return {
            "__rate_interval": f"{rate}s",
            "__interval": f"{distance}s",
            "__interval_ms": str(distance * 1000),
            "__range": f"{self.range}s",
            "__range_s": str(self.range),
            "__range_ms": str(self.range * 1000),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelQuery:
    """One query of a panel."""

    ref: str
    expression: str
    """PromQL, variables not yet filled in."""
    is_instant: bool
    wants_exemplars: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardPanel:
    """A panel and its queries."""

    title: str
    queries: tuple[PanelQuery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFile:
    """One board, as read from its file."""

    uid: str
    title: str
    panels: tuple[BoardPanel, ...]
    """Those that query Prometheus."""
    variables: Mapping[str, str]
    """Value of each variable if everything is selected."""

    def fill(self, text: str, timing: Timing, chosen: Mapping[str, str]) -> str:
        """Return a text of the board with the variables replaced by their values."""
        escaped = {name: _as_pattern(value) for name, value in chosen.items()}
        values = {**self.variables, **timing.variables, **escaped}

        def value(found: re.Match[str]) -> str:
            name = next(group for group in found.groups() if group)
            return values.get(name, found.group())

        return _VARIABLE.sub(value, text)


def _as_pattern(value: str) -> str:
    """Return a selected value as Grafana inserts it: a regular expression for just that text."""
    pattern = _SPECIAL.sub(r"\\\g<0>", value)
    # Inside a PromQL string a backslash has to be doubled.
    return pattern.replace("\\", "\\\\").replace('"', '\\"')


def read_board_file(path: Path) -> BoardFile:
    """Read a board; raises `MonitoringError` if the file is not a Grafana board."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        panels = tuple(_panels(content["panels"]))
        listed = content.get("templating", {}).get("list", [])
        return BoardFile(
            uid=content["uid"],
            title=content["title"],
            panels=panels,
            variables={each["name"]: _everything(each) for each in listed},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MonitoringError(
            f"{path} is not a Grafana board: expected JSON with uid, title and panels "
            f"({type(error).__name__}: {error})"
        ) from None


def _panels(listed: list[Any]) -> Iterator[BoardPanel]:
    for each in listed:
        # A collapsed row contains its panels.
        yield from _panels(each.get("panels") or [])
        queries = tuple(_queries(each))
        if queries:
            yield BoardPanel(title=each.get("title", ""), queries=queries)


def _queries(panel: Any) -> Iterator[PanelQuery]:
    for number, each in enumerate(panel.get("targets") or []):
        source = each.get("datasource") or panel.get("datasource") or {}
        if not each.get("expr") or each.get("hide"):
            continue
        if isinstance(source, dict) and source.get("type", "prometheus") != "prometheus":
            continue
        yield PanelQuery(
            ref=each.get("refId") or chr(ord("A") + number),
            expression=each["expr"],
            is_instant=bool(each.get("instant")) and not each.get("range"),
            wants_exemplars=bool(each.get("exemplar")),
        )


def _everything(variable: Any) -> str:
    """Return the value of a variable that selects everything."""
    if variable.get("type") in {"query", "custom"} and variable.get("includeAll"):
        return str(variable.get("allValue") or _EVERYTHING)
    current = variable.get("current") or {}
    value = current.get("value", variable.get("query", ""))
    if isinstance(value, list):
        value = "|".join(str(each) for each in value)
    return _EVERYTHING if value in {"$__all", ""} else str(value)
