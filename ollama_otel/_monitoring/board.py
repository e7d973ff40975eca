"""A Grafana board as the check needs it: its panels, their queries, and its variables filled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ollama_otel._monitoring.errors import DashboardsError

__all__ = ["Board", "Panel", "Target", "Timing", "read_board"]

_SPECIAL: Final = re.compile(r"[\\^$*+?.()|{}\[\]]")
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)|\[\[(\w+)\]\]")
_SAMPLES_OF_A_RATE: Final = 4
"""Grafana's: `$__rate_interval` is at least four times the distance of samples."""
_EVERYTHING: Final = ".*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What Grafana's own variables are made of, in seconds."""

    range: int
    step: int
    interval: int
    """How far samples are apart; in Grafana the data source says so."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Grafana's own variables."""
        rate = max(self.step + self.interval, _SAMPLES_OF_A_RATE * self.interval)
        return {
            "__rate_interval": f"{rate}s",
            "__interval": f"{self.step}s",
            "__interval_ms": str(self.step * 1000),
            "__range": f"{self.range}s",
            "__range_s": str(self.range),
            "__range_ms": str(self.range * 1000),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One query of a panel."""

    ref: str
    query: str
    """PromQL with the board's variables in it."""
    is_instant: bool
    wants_exemplars: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What shows the answers of some queries."""

    title: str
    kind: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One board."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    """Those that ask a Prometheus."""
    variables: Mapping[str, str]
    """Values of all variables where everything is chosen."""

    def filled(self, text: str, timing: Timing, chosen: Mapping[str, str]) -> str:
        """Return a text of the board with its variables filled."""
        escaped = {name: _as_pattern(value) for name, value in chosen.items()}
        values = {**self.variables, **timing.variables, **escaped}

        def value(found: re.Match[str]) -> str:
            name = next(group for group in found.groups() if group)
            return values.get(name, found.group())

        return _VARIABLE.sub(value, text)


def _as_pattern(value: str) -> str:
    """Return a chosen value as Grafana puts it into a query: a pattern of just that text."""
    pattern = _SPECIAL.sub(r"\\\g<0>", value)
    # It stands in a string of PromQL, where a backslash is written twice.
    return pattern.replace("\\", "\\\\").replace('"', '\\"')


def read_board(path: Path) -> Board:
    """Read a board; raises `DashboardsError` where the file is none."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        panels = tuple(_panels(content["panels"]))
        listed = content.get("templating", {}).get("list", [])
        return Board(
            uid=content["uid"],
            title=content["title"],
            panels=panels,
            variables={each["name"]: _everything(each) for each in listed},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DashboardsError(
            f"{path} is no Grafana board: expected JSON with uid, title and panels "
            f"({type(error).__name__}: {error})"
        ) from None


def _panels(listed: list[Any]) -> Iterator[Panel]:
    for each in listed:
        # A row that is folded in has its panels inside.
        yield from _panels(each.get("panels") or [])
        targets = tuple(_targets(each))
        if targets:
            yield Panel(title=each.get("title", ""), kind=each.get("type", ""), targets=targets)


def _targets(panel: Any) -> Iterator[Target]:
    for number, each in enumerate(panel.get("targets") or []):
        source = each.get("datasource") or panel.get("datasource") or {}
        if not each.get("expr") or each.get("hide"):
            continue
        if isinstance(source, dict) and source.get("type", "prometheus") != "prometheus":
            continue
        yield Target(
            ref=each.get("refId") or chr(ord("A") + number),
            query=each["expr"],
            is_instant=bool(each.get("instant")) and not each.get("range"),
            wants_exemplars=bool(each.get("exemplar")),
        )


def _everything(variable: Any) -> str:
    """Return what stands for a variable where nothing is left out."""
    if variable.get("type") in {"query", "custom"} and variable.get("includeAll"):
        return str(variable.get("allValue") or _EVERYTHING)
    current = variable.get("current") or {}
    value = current.get("value", variable.get("query", ""))
    if isinstance(value, list):
        value = "|".join(str(each) for each in value)
    return _EVERYTHING if value in {"$__all", ""} else str(value)
