"""One event of a log as one line of text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rich.text import Text

from ollama_otel._cli.terminal import OUTCOME_STYLES, first_words
from ollama_otel._cli.units import seconds

__all__ = ["event_line"]

_STYLES: Final[Mapping[str, str]] = {
    str(outcome): style for outcome, style in OUTCOME_STYLES.items()
}
_ID_WIDTH = 12
_OUTCOME_WIDTH = 9


def event_line(event: Mapping[str, Any], *, ascii_only: bool) -> Text | None:
    """Return the line of a call that begins or ends; None of any other event."""
    match event.get("event"):
        case "request":
            request = event.get("request")
            model = request.get("model") if isinstance(request, dict) else None
            arrow = ">" if ascii_only else "→"
            return _line(event, arrow, model, Text("begins".ljust(_OUTCOME_WIDTH), style="dim"))
        case "end":
            outcome = str(event.get("outcome"))
            shown = Text(first_words(outcome).ljust(_OUTCOME_WIDTH), style=_STYLES.get(outcome, ""))
            arrow = "<" if ascii_only else "←"
            line = _line(event, arrow, event.get("model"), shown)
            line.append("".join(f"  {fact}" for fact in _facts(event)))
            return line.append(_error(event), style="red")
    return None


def _line(event: Mapping[str, Any], arrow: str, model: Any, outcome: Text) -> Text:
    call = f"{event.get('operation')} {model or ''}".strip().removesuffix(":latest")
    return Text.assemble(
        (_time(event.get("at")), "dim"),
        f"  {first_words(str(event.get('id'))):<{_ID_WIDTH}} {arrow} ",
        outcome,
        f"  {first_words(call)}",
    )


def _time(at: Any) -> str:
    try:
        time = datetime.fromisoformat(str(at)).astimezone()
    except ValueError:
        return "--:--:--.---"
    return f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}"


def _facts(event: Mapping[str, Any]) -> list[str]:
    facts = []
    duration, response = event.get("duration"), event.get("response")
    if isinstance(duration, int | float):
        facts.append(seconds(duration))
    if not isinstance(response, dict):
        return facts
    for name, word in (("input_tokens", "in"), ("output_tokens", "out")):
        if type(response.get(name)) is int:
            facts.append(f"{response[name]} {word}")
    return facts


def _error(event: Mapping[str, Any]) -> str:
    told = [str(event[name]) for name in ("error_type", "error_message") if event.get(name)]
    return f"  {first_words(': '.join(told))}" if told else ""
