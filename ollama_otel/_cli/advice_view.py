"""Advice as text for a terminal, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from rich.text import Text

from ollama_otel._cli.terminal import plural
from ollama_otel._cli.units import seconds
from ollama_otel._display import shell_command, visible_line
from ollama_otel.analysis import Advice, AdviceKind, Advisory

__all__ = ["as_json", "parts"]

_TITLES: Final[Mapping[AdviceKind, str]] = {
    "mixed_num_ctx": "num_ctx differs from call to call",
    "other_num_ctx": "other programs load the model with another num_ctx",
    "keep_alive_short": "keep_alive is too short",
    "prompt_cut": "prompts are cut",
    "context_too_large": "the context is far too large",
    "model_on_cpu": "the model is not on the GPU",
    "tool_loop": "tool loops",
    "same_prompt": "the same prompt again and again",
    "retry_storm": "retry storms",
    "cancels_in_row": "calls given up in a row",
    "cache_taken": "conversations take each other's prompt cache",
    "cache_broken": "prompts that change at the beginning",
    "answer_runaway": "answers that run away",
    "answer_cut": "answers that num_predict cuts",
    "json_temperature": "JSON at a high temperature",
    "model_too_large": "a smaller model",
}
_INDENT: Final = 3


def as_json(advisory: Advisory) -> dict[str, Any]:
    """Return all findings as JSON values."""
    found: dict[str, Any] = msgspec.to_builtins(advisory)
    for values, advice in zip(found["advice"], advisory.advice, strict=True):
        values |= {"saves": advice.saves, "docs": advice.docs}
    return found


def parts(
    advisory: Advisory, *, log: str | None, most: int | None, width: int
) -> Iterator[Text | str]:
    """Yield the printed parts; at most `most` pieces of advice, None for all."""
    yield textwrap.fill(_head(advisory), width)
    shown = advisory.advice[:most]
    for number, advice in enumerate(shown, 1):
        yield ""
        yield from _advice(number, advice, width)
    if left := len(advisory.advice) - len(shown):
        yield ""
        yield f"{left} more: --all prints them."
    if shown and log is not None:
        yield ""
        yield f"See a call: {shell_command(['ollama-otel', 'show', log, 'ID'])}"
    if advisory.unchecked:
        yield ""
        yield "Could not be checked, as the calls lack facts:"
    for lacks, turn_on in dict.fromkeys((each.lacks, each.turn_on) for each in advisory.unchecked):
        titles = "; ".join(_TITLES[each.kind] for each in advisory.unchecked if each.lacks == lacks)
        yield _indented(f"{titles}. Missing: {lacks}. Remedy: {turn_on}", width)
    if advisory.nothing_found:
        yield ""
        yield "Looked for and not found:"
        yield _indented("; ".join(_TITLES[kind] for kind in advisory.nothing_found), width)


def _head(advisory: Advisory) -> str:
    median = "" if advisory.median is None else f", median {seconds(advisory.median)}"
    found = len(advisory.advice)
    if not found:
        return f"{plural(advisory.calls, 'call')}{median}: nothing to change was found."
    return (
        f"{plural(advisory.calls, 'call')}{median}: {plural(found, 'thing')} to change. Savings "
        "are estimates, from the times of these calls; what saves most in all is first."
    )


def _advice(number: int, advice: Advice, width: int) -> Iterator[Text]:
    server = f" at {advice.server}" if advice.server else ""
    yield Text.assemble(
        (f"{number}. {_TITLES[advice.kind]}", "bold"),
        f": {visible_line(advice.model + server)}",
    )
    if saving := _saving(advice):
        yield _indented(saving, width, "green")
    yield _indented(visible_line(advice.seen), width)
    yield _indented(f"Change: {visible_line(advice.change)}", width, "bold")
    if advice.computed:
        yield _indented(f"Estimated as: {advice.computed}.", width, "dim")
    if advice.evidence:
        ids = " ".join(visible_line(call_id) for call_id in advice.evidence)
        yield _indented(f"Calls: {ids}", width)
    yield _indented(f"More: {advice.docs}", width, "dim")


def _saving(advice: Advice) -> str | None:
    saves, median, after = advice.saves, advice.median, advice.median_after
    if saves is None or median is None or after is None:
        return None
    in_all = "" if advice.saved_in_all is None else f"; {seconds(advice.saved_in_all)} in all"
    return (
        f"Saves about {seconds(saves)} of each: the median of {plural(advice.calls, 'call')} "
        f"goes from {seconds(median)} to {seconds(after)}{in_all}."
    )


def _indented(text: str, width: int, style: str = "") -> Text:
    indent = " " * _INDENT
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        # An id or an address stays whole, to be copied.
        break_long_words=False,
        break_on_hyphens=False,
    )
    return Text("\n".join(lines), style=style)
