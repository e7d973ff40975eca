"""Prometheus 3 with the configuration we ship, made fast enough for tests."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

import yaml

from .processes import ask, free_ports, installed, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DASHBOARDS = Path(__file__).parents[3] / "dashboards"

Translation = Literal[
    "UnderscoreEscapingWithSuffixes",
    "UnderscoreEscapingWithoutSuffixes",
    "NoUTF8EscapingWithSuffixes",
    "NoTranslation",
]
"""How Prometheus makes its names of OpenTelemetry's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealPrometheus:
    """A running Prometheus."""

    url: str
    """`http://127.0.0.1:PORT`."""
    otlp_metrics: str
    """The whole URL to which an exporter sends metrics."""
    is_classic: bool
    """Whether it keeps a series for each bucket, instead of one for each histogram."""

    def ask(self, path: str, **parameters: Any) -> Any:
        """What the API says under `data`; several values of one parameter are a list."""
        asked = urlencode(parameters, doseq=True)
        return ask("GET", f"{self.url}/api/v1/{path}?{asked}")["data"]

    def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The samples of an instant query, now or at a time in seconds."""
        moment = {} if at is None else {"time": at}
        found = self.ask("query", query=expression, **moment)
        if found["resultType"] == "scalar":
            return [{"metric": {}, "value": found["result"]}]
        samples: list[dict[str, Any]] = found["result"]
        return samples

    def value(self, expression: str, at: float | None = None) -> float | None:
        """The one number that a query gives, or None where it gives nothing."""
        samples = self.query(expression, at)
        if len(samples) > 1:
            message = f"{expression} gave {len(samples)} series, not one"
            raise ValueError(message)
        return float(samples[0]["value"][1]) if samples else None

    def values(self, expression: str, *labels: str, at: float | None = None) -> dict[Any, float]:
        """The numbers that a query gives, by the values of one or more labels."""
        found = {}
        for sample in self.query(expression, at):
            key = tuple(sample["metric"].get(label) for label in labels)
            found[key if len(labels) > 1 else key[0]] = float(sample["value"][1])
        return found


@contextlib.contextmanager
def run_prometheus(
    folder: Path,
    *,
    scrape: Mapping[str, str] | None = None,
    classic: bool = False,
    translation: Translation | None = None,
    is_for_the_past: bool = False,
) -> Iterator[RealPrometheus]:
    """Run a Prometheus as `dashboards/` sets it up, rules included, but with a second for each interval.

    `scrape` gives a `HOST:PORT` for each job; with `classic` buckets stay series of their own.
    One that is for the past takes samples of any time, and evaluates no rules, as it would do so now.
    """
    binary = installed("prometheus")
    for name in ("prometheus", "rules"):
        if (DASHBOARDS / name).exists():
            shutil.copytree(DASHBOARDS / name, folder / name, dirs_exist_ok=True)
    config = folder / "prometheus" / "prometheus.yml"
    shipped = config.read_text()
    changed = _configuration(shipped, classic=classic, translation=translation)
    config.write_text(_for_the_past(changed) if is_for_the_past else changed)
    # JSON is YAML too.
    targets = [
        {"targets": [place], "labels": {"job": job}} for job, place in (scrape or {}).items()
    ]
    (folder / "prometheus" / "targets" / "tests.yaml").write_text(json.dumps(targets))
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        str(binary),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *shipped_flags(),
    ]
    # A build without flags has no version; asked for its flags, it answers as soon as it can.
    ready = f"{url}/api/v1/status/flags"
    with running(command, {}, folder / "prometheus.log", ready):
        yield RealPrometheus(
            url=url, otlp_metrics=f"{url}/api/v1/otlp/v1/metrics", is_classic=classic
        )


def shipped_flags() -> list[str]:
    """The flags of the container, without those of its files."""
    services = yaml.safe_load((DASHBOARDS / "compose.yaml").read_text())["services"]
    command: list[str] = services["prometheus"]["command"]
    return [flag for flag in command if not flag.startswith(("--config.file", "--storage"))]


def _configuration(shipped: str, *, classic: bool, translation: Translation | None) -> str:
    """The shipped configuration with what a test changes, each of which must have been there."""
    changes = [(r"(?m)^(  (?:scrape|evaluation)_interval): 15s$", r"\1: 1s", 2)]
    if classic:
        changes.append((r"(?m)^ *convert_\w+_to_nhcb: true\n", "", 2))
    if translation is not None:
        changes.append(
            (r"(?m)^(  translation_strategy): \w+$", rf"\g<1>: {translation}", 1),
        )
    return _replaced(shipped, changes)


def _for_the_past(configuration: str) -> str:
    """The configuration without rules, with samples allowed in any order."""
    changes = [
        (r"(?m)^(    out_of_order_time_window): 30m$", r"\1: 100d", 1),
        (r"(?m)^rule_files:\n  - .*\n", "", 1),
    ]
    return _replaced(configuration, changes)


def _replaced(text: str, changes: list[tuple[str, str, int]]) -> str:
    """The text after each change, which must find as many places as expected."""
    changed = text
    for pattern, replacement, expected in changes:
        changed, count = re.subn(pattern, replacement, changed)
        if count != expected:
            message = f"prometheus.yml: expected {expected} lines like {pattern!r}, found {count}"
            raise ValueError(message)
    return changed
