"""The command `replay`: sends the requests of a log to a server again."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from ollama_otel._cli.arguments import (
    add_host,
    add_no_color,
    count,
    factor,
    new_file,
    server_address,
)
from ollama_otel._cli.left_out import left_out
from ollama_otel._cli.terminal import console_for_text, plural
from ollama_otel._cli.units import seconds
from ollama_otel._display import shell_command
from ollama_otel._log.reader import read
from ollama_otel._telemetry import first_call
from ollama_otel._wire.model_names import key_of
from ollama_otel.errors import ReplayError
from ollama_otel.replay._rerun import RerunProgress, rerun
from ollama_otel.replay._rerun_plan import RerunPlan, plan_rerun
from ollama_otel.replay._substitution import check_replaced

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Sends the requests of a log to a server again, which may be another server or use another model,
and writes the answers to a new log, to compare with ollama-otel diff. Only inference is sent:
nothing is pulled, created or deleted. Requests are sent at the recorded pace, unless --speed or
--concurrency is given.

Calls that the file of --out has already are not sent again, so the same command continues after
an interruption.
"""
_EPILOG = """\
exit status:
  0    every call was sent, and not all failed
  1    some calls reached no server, the same command sends them again; or every call failed
  2    the log cannot be read, no server answers at the start, or it does not have a new model
  130  interrupted
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("log", type=Path, metavar="LOG", help="a log with bodies")
    add_host(parser)
    parser.add_argument(
        "--model",
        type=_replacement,
        action="append",
        default=[],
        metavar="[OLD=]NEW",
        help="use this model instead, or only instead of OLD; may be repeated",
    )
    parser.add_argument(
        "--out", type=new_file, metavar="FILE", help="the new log (default: LOG.replayed.jsonl)"
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--concurrency", type=count, metavar="N", help="send N at a time, as fast as they end"
    )
    pace.add_argument(
        "--speed", type=factor, default=1.0, metavar="X", help="X times as fast as recorded"
    )
    parser.add_argument("--limit", type=count, metavar="N", help="the first N calls only")
    parser.add_argument(
        "--media", action="store_true", help="also log the images of requests, not their hash only"
    )
    parser.add_argument(
        "--redacted", action="store_true", help="also send requests with redacted text"
    )
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Send the requests and print the result; 1 if some reached no server."""
    log, url = arguments.log, server_address(arguments.host).url
    # The variables are those of the user's apps.
    first_call.expect_no_sdk()
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    calls = list(read(log))
    check_replaced((old for old, _ in arguments.model if old is not None), calls)
    plan = plan_rerun(
        calls,
        out=arguments.out or _default_out(log),
        limit=arguments.limit,
        redacted=arguments.redacted,
    )
    _check_bodies(plan, log)
    for line in _lines_before(plan):
        console.print(line, soft_wrap=True)
    if not plan.calls:
        return 0
    progress = _send(plan, url, arguments, console)
    for line in _lines_after(progress, log, plan.out):
        console.print(line, soft_wrap=True)
    has_all_failed = 0 < progress.ended == progress.failed
    return 1 if progress.unreachable or has_all_failed else 0


def _new_models(
    plan: RerunPlan, replacements: Sequence[tuple[str | None, str]]
) -> str | Mapping[str, str] | None:
    """Return the new models; a name without an old one is for all models not named otherwise."""
    single = {key_of(old): new for old, new in replacements if old is not None}
    default = next((new for old, new in reversed(replacements) if old is None), None)
    if default is None or not single:
        return single or default
    logged = (key_of(call.start.request.model or "") for call in plan.calls)
    return dict.fromkeys(logged, default) | single


def _replacement(text: str) -> tuple[str | None, str]:
    """Parse `NEW` or `OLD=NEW`."""
    old, separator, new = text.rpartition("=")
    if not new or (separator and not old):
        raise argparse.ArgumentTypeError(f"expected NEW or OLD=NEW, found {text!r}")
    return old or None, new


def _check_bodies(plan: RerunPlan, log: Path) -> None:
    """Raise `ReplayError` if no request of the log has a body."""
    has_other_reasons = plan.left_out.keys() & {"images", "redacted"}
    if plan.calls or plan.answered or has_other_reasons or not plan.left_out.get("no_body"):
        return
    raise ReplayError(
        f"no call of {log} can be sent ({plan.left_out['no_body']} without a body): record with "
        "replay_bodies=True"
    )


def _send(
    plan: RerunPlan,
    url: str,
    arguments: argparse.Namespace,
    console: Console,
) -> RerunProgress:
    latest = RerunProgress(total=len(plan.calls))
    with _progress_bar(console) as bar:
        task = bar.add_task("", total=latest.total, failed=0)

        def show(progress: RerunProgress) -> None:
            nonlocal latest
            latest = progress
            if progress.total and not progress.ended:
                sending = f"Sending {plural(progress.total, 'call')} to {url}, "
                console.print(f"{sending}{_pace(plan, arguments)}.", soft_wrap=True)
            bar.update(task, total=progress.total, completed=progress.ended, failed=progress.failed)

        try:
            return asyncio.run(
                rerun(
                    plan,
                    host=url,
                    model=_new_models(plan, arguments.model),
                    concurrency=arguments.concurrency,
                    speed=arguments.speed,
                    media=arguments.media,
                    on_progress=show,
                )
            )
        except KeyboardInterrupt:
            bar.stop()
            console.print(
                f"Interrupted: {latest.ended} of {latest.total} ended; the same command sends "
                "the rest."
            )
            raise


def _pace(plan: RerunPlan, arguments: argparse.Namespace) -> str:
    if arguments.concurrency is None:
        return f"over {seconds(plan.duration / arguments.speed)}"
    return f"{arguments.concurrency} at a time"


def _default_out(log: Path) -> Path:
    stem = log.name.removesuffix(".gz").removesuffix(".jsonl")
    return log.with_name(f"{stem}.replayed.jsonl")


# --- output -------------------------------------------------------------------------------


def _lines_before(plan: RerunPlan) -> Iterator[str]:
    yield from left_out(plan.left_out)
    if plan.answered:
        yield f"Already answered: {plural(plan.answered, 'call')}."
    if not plan.calls:
        yield "Nothing is left to send."


def _lines_after(progress: RerunProgress, log: Path, out: Path) -> Iterator[str]:
    if progress.unsuited:
        yield (
            f"Not sent {plural(progress.unsuited, 'call')} that the new model does not support, "
            "such as embeddings to a chat model: --model OLD=NEW names another model for them."
        )
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(progress.failures.items()))
    yield f"{plural(progress.ended, 'call')} ended, {progress.failed} failed" + (
        f": {kinds}." if kinds else "."
    )
    if progress.unreachable:
        calls = plural(progress.unreachable, "call")
        yield f"{calls} reached no server; the same command sends them again."
    yield "Compare the logs:"
    yield f"  {shell_command(['ollama-otel', 'diff', str(log), str(out)])}"


class _RateColumn(TextColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f} calls/s")


def _progress_bar(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        _RateColumn(""),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
