"""Section on advice: settings to change, and the estimated savings."""

from __future__ import annotations

from typing import Final

from ollama_otel.analysis._advice.advice import Advisory
from ollama_otel.analysis._report.tables import table
from ollama_otel.analysis._report.values import Figure, Section

__all__ = ["build"]

_SHOWN: Final = 20


def build(found: Advisory) -> Section:
    """Return the section."""
    notes = tuple(
        f"Not checked: {entry.kind}. Needed: {entry.lacks}; {entry.turn_on} gives it."
        for entry in found.unchecked
    )
    if not found.advice:
        lead = "No setting is known that should be changed."
        return Section(name="advice", title="Advice", lead=lead, notes=notes)
    rows = [
        {
            "setting": advice.setting
            if advice.value is None
            else f"{advice.setting} {advice.value}",
            "model": advice.model,
            "change": advice.change,
            "seen": advice.seen,
            "calls": advice.calls,
            "median": advice.median,
            "after": advice.median_after,
            "saved": advice.saved_in_all,
            "evidence": ", ".join(advice.evidence[:3]),
        }
        for advice in found.advice[:_SHOWN]
    ]
    figure = Figure(
        name="advice_table",
        table=table(
            rows,
            f"The first {_SHOWN} of {len(found.advice)}." if len(found.advice) > _SHOWN else None,
            setting="Setting",
            model="Model",
            change=("Change", "sentence"),
            seen=("Finding", "sentence"),
            calls=("Calls", "count"),
            median=("Median now", "seconds"),
            after=("After it", "seconds"),
            saved=("Saved in all", "seconds"),
            evidence="Some of them",
        ),
    )
    return Section(name="advice", title="Advice", notes=notes, figures=(figure,))
