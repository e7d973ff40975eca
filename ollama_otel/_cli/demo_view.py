"""Renders the values of the demo as rich objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from rich.console import Group, RenderableType
from rich.text import Text

from ollama_otel._cli.call_tree import call_tree
from ollama_otel._cli.units import seconds
from ollama_otel._display import masked_url, visible_line
from ollama_otel._telemetry.export_causes import JAEGER_TAKES_TRACES_ONLY

if TYPE_CHECKING:
    from ollama_otel._cli.demo_run import Delivery, Step
    from ollama_otel._cli.demo_server import Server
    from ollama_otel._cli.metric_rows import MetricRow

__all__ = ["closing", "metrics", "opening", "step"]

_UNITS: Final = {
    "{token}": "tokens",
    "s": "seconds",
    "By": "bytes",
    "{request}": "calls",
    "{item}": "items",
}
_JAEGER_PORT = 16686
_CLOCKS: Final = "Timed by the server: load, queue, prompt, decode. Timed here: client, chunks."
_LABELS_WIDTH: Final = 42
_LEAST_LABELS: Final = 20
_COUNT_WIDTH: Final = 6
_AMOUNT_WIDTH: Final = 10
_TABLE_WIDTH: Final = _LABELS_WIDTH + _COUNT_WIDTH + 3 * _AMOUNT_WIDTH
"""Columns of the whole table."""
_FOOTNOTE: Final = (
    "Rows are sums over the labels model, provider and server.\np50 is estimated from the buckets."
)


def opening(server: Server) -> RenderableType:
    """Return the server and the models of the calls."""
    models = server.models
    if server.stands_in_because is not None:
        where = Text(
            f"{server.stands_in_because}; using a scripted server with invented numbers.",
            style="bold yellow",
        )
    else:
        where = Text(f"Ollama at {server.url}", style="bold")
    lines = [where, Text(visible_line(f"{models.chats} chats{_other_models(server)}."))]
    if models.thinks is None:
        lines.append(_missing("thinks", "qwen3:0.6b"))
    if models.embeds is None:
        lines.append(_missing("embeds", "all-minilm"))
    return Group(*lines, Text(_CLOCKS, style="dim"))


def _other_models(server: Server) -> str:
    thinks, embeds = server.models.thinks, server.models.embeds
    return (f", {thinks} thinks" if thinks else "") + (f", {embeds} embeds" if embeds else "")


def _missing(role: str, example: str) -> Text:
    return Text(f"No installed model {role}: call skipped (ollama pull {example} installs one).")


def step(step: Step, *, ascii_only: bool) -> RenderableType:
    """Return one call of the demo."""
    title = Text(f"{step.number}  {step.title}", style="bold")
    tree = call_tree(step.record, step.span_name, ascii_only=ascii_only)
    if not step.as_expected:
        tree.label = Text.assemble(cast(Text, tree.label), ("  (unexpected)", "bold red"))
    return Group(Text(""), title, tree)


def metrics(rows: Sequence[MetricRow], *, width: int) -> RenderableType:
    """Return all metrics in one table, the name of each above its rows.

    A table that is wider than `width` has no column for the mean, and shorter labels.
    """
    has_mean = width >= _TABLE_WIDTH
    others = _COUNT_WIDTH + (3 if has_mean else 2) * _AMOUNT_WIDTH
    labels_width = min(_LABELS_WIDTH, max(_LEAST_LABELS, width - others))

    def line(labels: str, count: str, mean: str, *amounts: str, style: str = "") -> Text:
        shown = (mean, *amounts) if has_mean else amounts
        cells = "".join(f"{amount:>{_AMOUNT_WIDTH}}" for amount in shown)
        first = Text(labels, style=style)
        first.truncate(labels_width, overflow="ellipsis", pad=True)
        return _unwrapped(first, (f"{count:>{_COUNT_WIDTH}}{cells}", style))

    lines = [Text(""), line("Metrics", "count", "mean", "p50 ~", "total", style="bold")]
    metric = None
    for row in rows:
        if row.metric != metric:
            metric, unit = row.metric, _UNITS.get(row.unit, row.unit)
            lines.append(_unwrapped((metric, "bold"), (f"  {unit}", "dim")))
        lines.append(line(*_cells(row)))
    return Group(*lines, Text(_FOOTNOTE, style="dim"))


def _unwrapped(*parts: Text | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _cells(row: MetricRow) -> tuple[str, str, str, str, str]:
    """Return the labels, and the texts of count, mean, median and total."""
    labels, total = "  " + (" ".join(row.labels) or "all"), _amount(row.value, row.unit)
    if row.count is None:
        return labels, "", "", "", total
    mean, median = _amount(row.mean, row.unit), _amount(row.median, row.unit)
    return labels, str(row.count), mean, median, total


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return seconds(value) if unit == "s" else f"{value:,.0f}"


def closing(delivery: Delivery, server: Server) -> RenderableType:
    """Return the destination of the telemetry, and how to record other calls."""
    lines = [*_delivery_lines(delivery), Text("")]
    lines.append(Text("For your own calls, change one import and call configure() once:"))
    lines.append(Text("  from ollama_otel import configure, ollama", style="bold"))
    if server.stands_in_because is not None:
        lines.append(Text("For real numbers, start Ollama, or give its address with --host."))
    return Group(Text(""), *lines)


def _delivery_lines(delivery: Delivery) -> Iterator[Text]:
    if not delivery.endpoints:
        yield Text("Nothing was sent: no collector is configured. With Jaeger running:")
        yield Text(
            "  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 ollama-otel demo", style="bold"
        )
    for signal, url in delivery.endpoints.items():
        endpoint = masked_url(url)
        if signal in delivery.arrived:
            yield Text(f"Sent the {signal} to {endpoint}", style="green")
        elif signal == "metrics" and "traces" in delivery.arrived:
            text = f"{endpoint} did not accept the metrics ({JAEGER_TAKES_TRACES_ONLY})."
            yield Text(text)
        else:
            yield Text(f"The {signal} were not delivered to {endpoint}", style="red")
    if "traces" in delivery.arrived:
        host = urlsplit(delivery.endpoints["traces"]).hostname or "localhost"
        yield Text(f"All calls are in trace {delivery.trace_id}; in Jaeger:")
        yield Text(f"  http://{host}:{_JAEGER_PORT}/trace/{delivery.trace_id}", style="bold")
