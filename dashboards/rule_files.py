"""What Prometheus reads: rules as YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # ships no types

from dashboards.alerts import Alert
from dashboards.recording import RecordingRule

__all__ = ["alert_rules", "recording_rules"]

_HEAD: Final = "# Made by `python -m dashboards`; changes belong into its code.\n"
_RUNBOOK: Final = "RUNBOOK.md"
_SERVICE: Final = "ollama"
"""Label of every alert, for routes and inhibitions."""


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # the base class has no types
    """Writes queries of several lines as they are read."""


def _text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def recording_rules(recordings: Sequence[RecordingRule]) -> str:
    """Return the file of recording rules."""
    rules = [{"record": each.record, "expr": each.expr} for each in recordings]
    return _file("ollama-otel-recording", rules)


def alert_rules(alerts: Sequence[Alert]) -> str:
    """Return the file of alerts."""
    return _file("ollama-otel-alerts", [_alert(each) for each in alerts])


def _alert(alert: Alert) -> Mapping[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasting,
        "labels": {"severity": alert.severity, "service": _SERVICE},
        "annotations": {
            "summary": alert.summary,
            "description": alert.seen,
            "action": alert.do,
            "runbook_url": f"{_RUNBOOK}#{alert.name.lower()}",
            "dashboard_uid": alert.board,
        },
    }


def _file(group: str, rules: Sequence[Mapping[str, Any]]) -> str:
    content = {"groups": [{"name": group, "rules": list(rules)}]}
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True
    )
    return _HEAD + text
