"""How the demo looks: values in, things that rich can print out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, cast
from urllib.parse import urlsplit

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from ollama_otel._cli.demo_run import Delivery, Step
from ollama_otel._cli.demo_server import Server
from ollama_otel._cli.metric_rows import Figure, Phase, PhaseName, phases_of
from ollama_otel._cli.terminal import first_words, printable
from ollama_otel.records import CallRecord, Outcome

__all__ = ["call_tree", "closing", "metrics", "opening", "seconds", "step"]

_BAR_WIDTH = 30
_OUTCOME_STYLES: Final[dict[Outcome, str]] = {
    "completed": "bold green",
    "abandoned": "bold yellow",
    "cancelled": "bold yellow",
    "failed": "bold red",
}
_PHASE_STYLES: Final[dict[PhaseName, str]] = {
    "load": "yellow",
    "queue, estimated": "magenta",
    "prompt": "cyan",
    "decode": "green",
    "rest in server": "cyan",
    "client": "blue",
    "to first chunk": "cyan",
    "stream": "green",
}
_UNITS: Final = {
    "{token}": "tokens",
    "s": "seconds",
    "By": "bytes",
    "{request}": "calls",
    "{item}": "items",
}
_JAEGER_PORT = 16686
_CLOCKS: Final = "Load, queue, prompt, decode: by the server's clock. Client, chunks: by ours."
_LABELS_WIDTH = 42
_LEFT_OUT: Final = (
    "Each series has model, provider and server too; here those are added up.\n"
    "The p50 is estimated from the buckets."
)


def opening(server: Server) -> RenderableType:
    """Say which server and models the numbers come from."""
    models = server.models
    if server.stands_in_because is not None:
        where = Text(
            f"{server.stands_in_because}; showing a scripted one: the numbers below are "
            "invented by it.",
            style="bold yellow",
        )
    else:
        where = Text(f"Ollama at {server.url}", style="bold")
    lines = [where, Text(f"{models.chats} chats{_and_the_others(server)}.")]
    if models.thinks is None:
        lines.append(_missing("thinks", "qwen3:0.6b"))
    if models.embeds is None:
        lines.append(_missing("embeds", "all-minilm"))
    return Group(*lines, Text(_CLOCKS, style="dim"))


def _and_the_others(server: Server) -> str:
    thinks, embeds = server.models.thinks, server.models.embeds
    return (f", {thinks} thinks" if thinks else "") + (f", {embeds} embeds" if embeds else "")


def _missing(role: str, example: str) -> Text:
    return Text(f"No model here {role}, so that is left out ('ollama pull {example}' gets one).")


def step(step: Step, *, ascii_only: bool) -> RenderableType:
    """Show a call as its span, and below it where its time went."""
    title = Text(f"{step.number}  {step.title}", style="bold")
    tree = call_tree(step.record, step.span_name, is_cold=step.is_cold, ascii_only=ascii_only)
    if not step.as_expected:
        tree.label = Text.assemble(
            cast(Text, tree.label), ("  (not what was expected)", "bold red")
        )
    return Group(Text(""), title, tree)


def call_tree(record: CallRecord, span_name: str, *, is_cold: bool, ascii_only: bool) -> Tree:
    """Show a call, and below it where its time went and what is known of it."""
    tree = Tree(_span_line(record, span_name, is_cold=is_cold), guide_style="dim")
    phases = phases_of(record)
    whole = sum(phase.seconds for phase in phases)
    for phase in phases:
        tree.add(_phase_line(phase, whole, "#" if ascii_only else "\N{FULL BLOCK}"))
    for fact in _facts(record):
        tree.add(fact)
    return tree


def _span_line(record: CallRecord, span_name: str, *, is_cold: bool) -> Text:
    line = Text.assemble(
        (span_name, "bold"),
        f"  {seconds(record.duration)}  ",
        (record.outcome, _OUTCOME_STYLES[record.outcome]),
    )
    if record.error_type is not None:
        line.append(f": {first_words(record.error_type)}", style=_OUTCOME_STYLES[record.outcome])
    if is_cold:
        line.append("  cold start", style="yellow")
    return line


def _phase_line(phase: Phase, whole: float, block: str) -> Text:
    share = phase.seconds / whole if whole else 0.0
    line = Text(f"{phase.name:<19}{seconds(phase.seconds):>9} {share:>5.0%}")
    if blocks := round(share * _BAR_WIDTH):
        line.append("  " + block * blocks, style=_PHASE_STYLES[phase.name])
    return line


def _facts(record: CallRecord) -> Iterator[Text]:
    if record.error_message is not None:
        status = f"HTTP {record.http_status}: " if record.http_status is not None else ""
        yield Text(printable(f"{status}{record.error_message}"))
    for facts in (_waits(record), _tokens(record)):
        if facts:
            yield Text(", ".join(facts))


def _waits(record: CallRecord) -> list[str]:
    first, answer = record.time_to_first_chunk, record.time_to_first_answer
    if first is None:
        return []
    if record.response.total_duration is None:
        return [f"{record.chunk_count} chunks, and no last one to tell the server's timings"]
    waits = [f"first chunk after {seconds(first)}"]
    if record.response.has_thinking or record.start.request.think:
        waits.append(f"first answer after {seconds(answer)}" if answer else "no answer yet")
    return [*waits, f"{record.chunk_count} chunks"]


def _tokens(record: CallRecord) -> list[str]:
    response, rate = record.response, record.decode_rate
    return [
        text
        for text, is_known in (
            (f"{response.input_tokens} tokens in", response.input_tokens is not None),
            (f"{response.output_tokens} out", response.output_tokens is not None),
            (f"{rate or 0:.0f} tokens/s", rate is not None),
        )
        if is_known
    ]


def metrics(figures: Sequence[Figure]) -> RenderableType:
    """Show all metrics in one table, each with a line of its own above its rows."""
    lines = [Text(""), _columns("Metrics", "count", "mean", "p50 ~", "total", style="bold")]
    metric = None
    for figure in figures:
        if figure.metric != metric:
            metric, unit = figure.metric, _UNITS.get(figure.unit, figure.unit)
            lines.append(Text.assemble((metric, "bold"), (f"  {unit}", "dim")))
        lines.append(_row(figure))
    return Group(*lines, Text(_LEFT_OUT, style="dim"))


def _row(figure: Figure) -> Text:
    labels = "  " + (" ".join(figure.labels) or "all")
    if figure.count is None:
        return _columns(labels, "", "", "", _amount(figure.value, figure.unit))
    amounts = (figure.mean, figure.median, figure.value)
    count, *rest = str(figure.count), *(_amount(amount, figure.unit) for amount in amounts)
    return _columns(labels, count, *rest)


def _columns(first: str, count: str, *amounts: str, style: str = "") -> Text:
    cells = "".join(f"{amount:>10}" for amount in amounts)
    return Text(f"{first:<{_LABELS_WIDTH}}{count:>6}{cells}", style=style)


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return seconds(value) if unit == "s" else f"{value:,.0f}"


def closing(delivery: Delivery, server: Server) -> RenderableType:
    """Say where the telemetry is, and how one's own calls get there."""
    lines = [*_whereabouts(delivery), Text("")]
    lines.append(Text("For your own calls, change one line:  from ollama_otel import ollama"))
    if server.stands_in_because is not None:
        lines.append(Text("Start Ollama, or say where it is with --host, to see real numbers."))
    return Group(Text(""), *lines)


def _whereabouts(delivery: Delivery) -> Iterator[Text]:
    if not delivery.endpoints:
        yield Text("Nothing left this process: no collector is configured. With Jaeger running:")
        yield Text(
            "  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 ollama-otel demo", style="bold"
        )
    for signal, endpoint in delivery.endpoints.items():
        if signal in delivery.arrived:
            yield Text(f"Sent the {signal} to {endpoint}", style="green")
        elif signal == "metrics" and "traces" in delivery.arrived:
            yield Text(f"The metrics were not taken by {endpoint} (Jaeger takes traces only).")
        else:
            yield Text(f"The {signal} did not arrive: nothing took them at {endpoint}", style="red")
    if "traces" in delivery.arrived:
        host = urlsplit(delivery.endpoints["traces"]).hostname or "localhost"
        yield Text(f"Trace {delivery.trace_id}, all calls in one; in Jaeger:")
        yield Text(f"  http://{host}:{_JAEGER_PORT}/trace/{delivery.trace_id}", style="bold")


def seconds(value: float) -> str:
    """Write a duration with as many digits as it can be read with."""
    if value < 0.0995:  # noqa: PLR2004 - what rounds to less than 0.10 s
        return f"{value * 1000:.{0 if value >= 0.00995 else 1}f} ms"  # noqa: PLR2004
    if value < 99.95:  # noqa: PLR2004
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"
