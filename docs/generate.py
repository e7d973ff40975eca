"""Writes the reference pages that follow from the code: `python docs/generate.py`.

With `--check` it writes nothing, names the pages that differ, and exits with status 1 if any does.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, get_args

from generator.api import api_pages
from generator.commands import commands_page

from ollama_otel._exchange.agent_runs import RunEnding, ToolOutcome
from ollama_otel._facts import FACTS, FactTable
from ollama_otel._telemetry.instruments import Instrument, all_instruments, instruments_of
from ollama_otel._wire.failures import ERROR_MEANINGS
from ollama_otel.analysis._report.attention import TEST
from ollama_otel.analysis._report.definitions import DEFINITIONS
from ollama_otel.analysis._store.columns import COLUMNS
from ollama_otel.settings import ClientDefaults, Profile
from ollama_otel.settings._rows import Row, _Group, rows_of
from ollama_otel.settings._settings import groups

REFERENCE: Final = Path(__file__).parent / "reference"

_FACTS_PAGE = """\
# Facts of a call

Every fact that a record holds: what it means, where it comes from, and its name in each output.
An unknown fact is absent: it is never written as `null` or 0.

- **Source**: `request`: the request as sent. `server`: the response. `client`: the client's clock and counts. `caller`: `call_context`. `residency`: polls of `/api/ps`. `counting`: tokens of the request, counted by this library. `estimate`: computed from other facts, not exact.
- **Span attribute**: set on the span of the call, if the fact is known.
- **Log line**: the line of the replay log (`request` or `end`) and the key in it.
- **Column**: the name in `ollama-otel show --json`, and in tables for analysis.

"""
_BESIDE_FACTS = """
Spans also have these attributes:

| Span attribute | Meaning |
| --- | --- |
| `gen_ai.operation.name` | operation of an inference: `chat`, `text_completion`, `embeddings` |
| `ollama.operation.name` | operation of anything else: `pull_model`, `load_model`, ... |
| `gen_ai.provider.name` | `ollama` |
| `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions`, `gen_ai.tool.definitions` | content, only if capture is on |
| `gen_ai.request.stop_sequences` | content, only if capture is on |
| `ollama.content.is_cut` | whether messages are missing from the content: the answer was longer than what is kept, or the SDK's limit for the length of attributes left no place for them |

A request for a [typed value](../structured.md) has a span `structured_output {model}` around those of its calls:

| Span attribute | Meaning |
| --- | --- |
| `ollama.operation.name` | `structured_output` |
| `gen_ai.provider.name`, `gen_ai.request.model`, `gen_ai.conversation.id`, `user.id`, `ollama.tag.*` | as on its calls |
| `ollama.structured.type` | the name of the type |
| `ollama.structured.attempt_count` | answers that were requested: 1, and more if the model was asked again |
| `ollama.structured.outcome` | what became of the last answer: `parsed`, `schema_ignored`, `cut_by_num_predict`, `incomplete` or `schema_mismatch`; absent if no answer was the last one |
| `ollama.outcome` | `completed` if there is a value, else `abandoned`, `cancelled` or `failed` |
| `error.type` | of a failure: the outcome of the last answer, or the type of the error that ended a call |

The span of a call whose client has [resilience](../resilience.md) may have these events:

| Event | Meaning | Attributes |
| --- | --- | --- |
| `ollama.call.limiter_wait` | the call had to wait in the limiter's queue | `ollama.limiter.wait` |
| `ollama.call.retry` | an attempt failed, and another one follows after a wait | `error.type`, `ollama.attempts` (so far), `ollama.attempts.backoff` |
| `ollama.call.fallback` | another server or model gets the call | `error.type`, `server.address`, `server.port`, `ollama.fallback.model` |
| `ollama.call.rejection` | an attempt was not sent | `ollama.rejection` |

Options that were sent become `gen_ai.request.seed`, `.top_k`, `.top_p`, `.temperature`, `.frequency_penalty`, `.presence_penalty` and `.max_tokens`, if the conventions define them, and `ollama.request.num_ctx`, `.num_keep`, `.num_batch`, `.num_gpu`, `.main_gpu`, `.num_thread`, `.draft_num_predict`, `.repeat_last_n`, `.repeat_penalty`, `.min_p` and `.typical_p`. `num_predict` is `gen_ai.request.max_tokens`, or `ollama.request.num_predict` if it means "no limit".
"""
_AGENT_SPANS = """
## Spans of agents

A run of an agent has a span `invoke_agent {name}` of kind INTERNAL; its calls of the model and its spans `execute_tool {tool}` are children of it.

| Span attribute | On | Meaning |
| --- | --- | --- |
| `gen_ai.operation.name` | both | `invoke_agent` or `execute_tool` |
| `gen_ai.agent.name` | run | name that the application gave the agent; with the profile `gen-ai-dev` on tool calls too |
| `gen_ai.request.model`, `gen_ai.output.type` | run | as on calls |
| `user.id`, `ollama.tag.*` | both | as on calls: those of `call_context` when the run began |
| `gen_ai.conversation.id` | run | as on calls; with the profile `gen-ai-dev` on tool calls too |
| `ollama.agent.ending` | run | why the run ended: {endings} |
| `ollama.agent.rounds` | run | calls of the model, failed ones included |
| `ollama.agent.tool_calls` | run | tool calls that the model asked for, rejected ones included |
| `ollama.agent.input_tokens`, `ollama.agent.output_tokens` | run | sums over its calls; absent if the server did not report a count for each. Not `gen_ai.usage.*`: back-ends add that up over all spans of a trace |
| `ollama.agent.thinking_length` | run | characters of thinking that were left out of the history |
| `gen_ai.tool.name`, `gen_ai.tool.type`, `gen_ai.tool.call.id` | tool call | as the model called it, with the id that the server gave. A name that the agent does not have is `_OTHER`; with content capture on, the attribute has the model's text |
| `ollama.tool.outcome` | tool call | {outcomes} |
| `gen_ai.tool.description`, `gen_ai.tool.call.arguments`, `gen_ai.tool.call.result` | tool call | content, only if capture is on |
| `error.type` | both | of a run its ending, of a tool call its outcome or the class of what the tool raised; absent if it did not fail. A denied or deferred tool call did not fail |
"""
_METRICS_PAGE = """\
# Metrics

Labels are those that a metric may have; an unknown one is absent.
"Both": the metric is in both profiles.
Metrics of models in memory need `configure(residency=True)`; those of the SDK come with `configure()`.

"""
_BESIDE_METRICS = """
`ollama.client.phase.time` has the label `ollama.phase`: `resilience` (limiter, failed attempts, waits between them), `load`, `queue_estimate`, `prompt_eval`, `eval`, `unaccounted`, and `client` (beyond the server's total). They add up to the durations of the calls.
`ollama.client.finish_reasons` has the reason that spans have in `gen_ai.response.finish_reasons`; a reason that is not known is `_OTHER`. Calls with another outcome than `completed` have no reason: the duration counts them, by `ollama.outcome`.
A decode rate is `rate(output tokens) / rate(phase eval)`.

Metrics `hw.*` come from NVML, with an NVIDIA GPU and `pip install 'ollama_otel[nvidia]'`, for all programs that use the GPU.
Each one is absent if the GPU does not report it. With MIG, a GPU reports no utilization, and its instances report their memory only, with the GPU as `hw.parent`.
`hw.gpu.memory.usage` is what `nvidia-smi` shows: the driver's reserve counts in the limit only. It is absent if another, older `pynvml` is installed, without version 2 of NVML's memory call, as that cannot tell the reserve.
`hw.gpu.utilization` has the unit 1: over OTLP, Prometheus calls it `hw_gpu_utilization_ratio`, by scraping `hw_gpu_utilization`.
`hw.energy` starts at 0 when the app first reads the GPU, and goes on if the driver starts its counter again. Several apps on one machine report the same GPU: do not add them up.

Metrics `gen_ai.invoke_agent.*`, `gen_ai.execute_tool.duration` and `ollama.agent.*` come from the runs of agents.
A name of a tool that the model invented is `_OTHER`, and so are names of agents and tools beyond the first 100 and 200.

With residency on, and OpenTelemetry's logs set up, these log events are sent: `ollama.model.load`, `ollama.model.unload`, `ollama.model.reload`, `ollama.model.reload_thrash` (with `ollama.reload.count`), `ollama.server.down` and `ollama.server.up`.
With truncation on, each call of which the server left out a part sends the log event `ollama.truncation`, in the context of its span.
"""
_ERRORS_PAGE = """\
# Error types

All values of `error.type` on spans, metrics and records of calls; those of agents are in [facts](facts.md#spans-of-agents).

"""
_REPORT_PAGE = """\
# Figures of a report

What each figure and each number of [`ollama-otel report`](../report.md) means; the page has the same words below each.

"""
_BESIDE_ERRORS = """
A server's error text may quote the prompt, the answer or headers; so may the text of an exception.
The span's status, `exception.message`, log lines and the replay log therefore hold what is known of a text: phrases that Ollama, its engine, Go, httpx, the operating system or OpenSSL always write the same way, the numbers in them, and the name of the requested model. `[...]` stands for the rest:

- `model 'llama3.2' not found, try pulling it first`
- `model requires more system memory (5.6 GiB) than is available (3.2 GiB)`
- `error parsing tool call: [...] unexpected end of JSON input`

If nothing of a text is known, it is `HTTP status 500`, or the exception's class.
With content capture on, spans and events have the whole text, redacted and then cut to 1,024 characters; a replay log with bodies has it too. Lines of `log_calls` never have it.
"""
_CALLS_PAGE = """\
# Columns of the table `calls`

One row per call, for [analysis](../analysis.md). NULL is unknown.

"""
_SETTINGS_PAGE = """\
# Settings

A keyword of `configure()` or `Settings()` overrides its variable, a variable overrides the default.
An empty variable counts as unset.
*Allowed* is what a variable may hold; words may be in capitals or not.
In code, words are lower-case texts (`"span_only"`), true and false are `True` and `False`, and several values are a tuple.
A wrong value is a `SettingsError`, which names the keyword or variable, what is allowed and what was found. Where recording begins without `configure()`, a wrong variable is logged as a warning, and the default is used.

A `Settings` object has the values in groups: `Settings(replay_keep=5).replay.keep` is 5. `settings.replace(replay_keep=6)` makes a copy with another value.
"""
_CLIENT_DEFAULTS = """
## Defaults of clients

`Client(defaults=ClientDefaults(model=...))` and the same for `AsyncClient`: what a call uses that does not say otherwise.
A keyword overrides its variable; without both, the client sends what the official one sends.

"""
_GENERATED = """
This page is generated: run `python docs/generate.py` after a change to {}.
"""


def facts_page(facts: FactTable = FACTS) -> str:
    """Return the page of all facts."""
    generated = _GENERATED.format("`ollama_otel/_facts/rows.py`")
    agents = _AGENT_SPANS.replace("{endings}", _listed(RunEnding))
    agents = agents.replace("{outcomes}", _listed(ToolOutcome))
    return _FACTS_PAGE + facts.markdown() + _BESIDE_FACTS + agents + generated


def _listed(values: object) -> str:
    return ", ".join(f"`{value}`" for value in get_args(values))


def metrics_page() -> str:
    """Return the page of all metrics."""
    profiles = {profile: set(instruments_of(profile)) for profile in get_args(Profile)}

    def profile_of(row: Instrument) -> str:
        having = [name for name, rows in profiles.items() if row in rows]
        return "both" if len(having) == len(profiles) else having[0]

    rows = (
        (
            f"`{row.name}`",
            row.kind,
            f"`{row.unit}`",
            profile_of(row),
            row.description,
            ", ".join(f"`{label}`" for label in row.labels),
        )
        for row in all_instruments()
    )
    head = ("Metric", "Kind", "Unit", "Profile", "Meaning", "Labels")
    generated = _GENERATED.format("`ollama_otel/_telemetry/instruments.py`")
    return _METRICS_PAGE + _table(head, rows) + _BESIDE_METRICS + generated


def errors_page() -> str:
    """Return the page of error types."""
    rows = ((f"`{name}`", meaning) for name, meaning in ERROR_MEANINGS.items())
    generated = _GENERATED.format("`ollama_otel/_wire/failures.py`")
    return _ERRORS_PAGE + _table(("`error.type`", "Meaning"), rows) + _BESIDE_ERRORS + generated


def calls_page() -> str:
    """Return the page of the columns for analysis."""
    units = {column.name: column.unit for column in FACTS.columns()}
    rows = (
        (f"`{name}`", kind, f"`{units[name]}`" if units.get(name) else "", sentence)
        for name, (kind, sentence) in COLUMNS.items()
    )
    generated = _GENERATED.format("`ollama_otel/_facts/rows.py`")
    return _CALLS_PAGE + _table(("Column", "Type", "Unit", "Meaning"), rows) + generated


def settings_page() -> str:
    """Return the page of settings; their meaning is the text below each field."""
    tables = (
        f"\n## {name.capitalize()}\n\n{group.__doc__}\n\n{_settings_table(group, name)}"
        for name, group in groups().items()
    )
    return (
        _SETTINGS_PAGE
        + "".join(tables)
        + _CLIENT_DEFAULTS
        + _settings_table(ClientDefaults)
        + _GENERATED.format("`ollama_otel/settings/`")
    )


def _settings_table(group: type[_Group], name: str | None = None) -> str:
    """Return the table of a group; `name` is its attribute of `Settings`."""
    meanings = _texts_below_fields(group)
    rows = [
        {
            "Keyword": f"`{row.keyword}`",
            **({"Attribute": f"`{name}.{row.name}`"} if name else {}),
            "Variable": f"`{row.variable}`" if row.variable else "-",
            "Allowed": _allowed(row),
            "Default": f"`{row.default!r}`",
            "Meaning": meanings[row.name],
        }
        for row in rows_of(group)
    ]
    return _table(rows[0], (row.values() for row in rows))


def _allowed(row: Row) -> str:
    allowed = row.kind.text if row.variable else row.kind.code
    return "; ".join(
        [allowed, *(f"`{word}` stands for `{value}`" for word, value in row.kind.synonyms)]
    )


def report_page() -> str:
    """Return the page of the definitions of a report."""
    rows = ((found.title, f"`{name}`", found.text) for name, found in DEFINITIONS.items())
    return (
        _REPORT_PAGE
        + TEST
        + "\n\n"
        + _table(("Figure or number", "Name in `--json`", "Meaning"), rows)
    )


def _texts_below_fields(cls: type) -> Mapping[str, str]:
    tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    body = next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == cls.__name__)
    texts: dict[str, str] = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = " ".join(ast.literal_eval(below.value).split())
    return texts


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, tuple("---" for _ in head), *map(tuple, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "calls.md": calls_page,
    "cli.md": commands_page,
    "errors.md": errors_page,
    "facts.md": facts_page,
    "metrics.md": metrics_page,
    "report.md": report_page,
    "settings.md": settings_page,
    **{f"api/{name}": page for name, page in api_pages().items()},
}


def differing() -> list[Path]:
    """Return the pages that are missing, not generated any more, or not what the code says."""
    texts = {REFERENCE / name: page() for name, page in PAGES.items()}
    found = {path for path in REFERENCE.rglob("*") if path.is_file()}
    wrong = {path for path in found & {*texts} if path.read_text(encoding="utf-8") != texts[path]}
    return sorted(wrong | (found ^ {*texts}))


def main(arguments: Sequence[str]) -> int:
    """Write every page and delete all others, or check them; return the exit status."""
    if arguments == ["--check"]:
        wrong = differing()
        for path in wrong:
            print(f"{path.relative_to(REFERENCE.parent)} differs: run `python docs/generate.py`")
        return 1 if wrong else 0
    if arguments:
        print("usage: python docs/generate.py [--check]")
        return 2
    for path in differing():
        page = PAGES.get(path.relative_to(REFERENCE).as_posix())
        if page is None:
            path.unlink()
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
