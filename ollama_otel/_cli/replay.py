"""The command `replay`: sends the requests of a log to a server again."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ollama_otel._cli.arguments import address, count, factor
from ollama_otel._wire.address import Address, parse_host
from ollama_otel.errors import ReplayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console
    from rich.progress import Progress

    from ollama_otel.replay._rerun import RerunProgress
    from ollama_otel.replay._rerun_plan import LeftOut, RerunPlan

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Sends the requests of a log to a server again, which may be another one, with another model,
and logs the answers into a log of their own, to be compared by ollama-otel diff. Only
inference is sent: nothing is pulled, created or deleted. Requests begin at the distances at
which they were recorded, unless --speed or --concurrency says otherwise.

What has been answered in the file of --out already is not sent again, so that the same
command goes on where it was interrupted.
"""
_EPILOG = """\
exit status:
  0    every call was sent, however it ended
  1    some calls reached no server; the same command sends them again
  2    the log cannot be read, or no server answers to begin with
  130  interrupted
"""

_LEFT_OUT: Final[Mapping[LeftOut, str]] = {
    "not_inference": "only inference is sent again",
    "redirected": "the server pointed elsewhere, and the call that followed is sent again",
    "no_body": "the log has no body of the request",
    "images": "cannot be sent again: images were not kept",
    "redacted": "redacted, so not what was asked",
}


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "replay",
        help="send the requests of a log to a server again",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("log", type=Path, metavar="LOG", help="a log with bodies")
    parser.add_argument(
        "--host", type=address, metavar="URL", help="where Ollama is; wins over OLLAMA_HOST"
    )
    parser.add_argument("--model", metavar="NAME", help="the model to ask instead")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the answers; by default LOG.replayed.jsonl"
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
        "--redacted", action="store_true", help="send requests, too, in which text was redacted"
    )
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send what is to be sent, and say what became of it."""
    # They import the official package, which `main` makes sure of first.
    from ollama_otel._cli.terminal import console_for_text  # noqa: PLC0415
    from ollama_otel.replay import plan_rerun, read  # noqa: PLC0415

    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    plan = plan_rerun(
        read(arguments.log),
        out=arguments.out or _default_out(arguments.log),
        limit=arguments.limit,
        redacted=arguments.redacted,
    )
    _check_bodies(plan, arguments.log)
    for line in _intentions(plan, arguments):
        console.print(line, soft_wrap=True)
    if not plan.calls:
        return 0
    progress = _send(plan, arguments, console)
    for line in _results(plan, progress, arguments.log):
        console.print(line, soft_wrap=True)
    return 1 if progress.unreachable else 0


def _check_bodies(plan: RerunPlan, log: Path) -> None:
    """Tell a log that has nothing to send from one of which everything was sent."""
    has_other_reasons = plan.left_out.keys() & {"images", "redacted"}
    if plan.calls or plan.answered or has_other_reasons or not plan.left_out.get("no_body"):
        return
    raise ReplayError(
        f"{log} has no call that could be sent (without a body: {plan.left_out['no_body']}): "
        "record with replay_bodies=True"
    )


def _send(plan: RerunPlan, arguments: argparse.Namespace, console: Console) -> RerunProgress:
    from ollama_otel.replay import rerun  # noqa: PLC0415

    ended = 0
    with _bar(console) as bar:
        task = bar.add_task("", total=len(plan.calls), failed=0)

        def show(progress: RerunProgress) -> None:
            nonlocal ended
            ended = progress.ended
            bar.update(task, completed=ended, failed=progress.failed)

        try:
            return asyncio.run(
                rerun(
                    plan,
                    host=_host(arguments).url,
                    model=arguments.model,
                    concurrency=arguments.concurrency,
                    speed=arguments.speed,
                    on_progress=show,
                )
            )
        except KeyboardInterrupt:
            bar.stop()
            console.print(
                f"Interrupted: {ended} of {len(plan.calls)} ended; the same command goes on with "
                "the others."
            )
            raise


def _bar(console: Console) -> Progress:
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    class Rate(TextColumn):
        def render(self, task: Any) -> Any:
            return f"{task.finished_speed or task.speed or 0:.1f} calls/s"

    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        Rate(""),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _intentions(plan: RerunPlan, arguments: argparse.Namespace) -> Iterator[str]:
    from ollama_otel._cli.render import seconds  # noqa: PLC0415
    from ollama_otel._cli.terminal import plural  # noqa: PLC0415

    for reason, calls in plan.left_out.items():
        yield f"Left out: {plural(calls, 'call')}: {_LEFT_OUT[reason]}"
    if plan.answered:
        yield f"Answered before: {plural(plan.answered, 'call')}"
    if not plan.calls:
        yield "Nothing is left to send."
        return
    pace = (
        f"begun within {seconds(plan.duration / arguments.speed)}, as recorded"
        if arguments.concurrency is None
        else f"{arguments.concurrency} at a time"
    )
    yield f"Sending {plural(len(plan.calls), 'call')} to {_host(arguments).url}, {pace}"


def _results(plan: RerunPlan, progress: RerunProgress, log: Path) -> Iterator[str]:
    from ollama_otel._cli.terminal import plural, printable  # noqa: PLC0415

    yield f"Ended: {plural(progress.ended, 'call')}, {progress.failed} of them failed"
    if progress.unreachable:
        yield f"No server was reached by {progress.unreachable}; the same command sends them again."
    yield "What changed:"
    yield printable(f"  {shlex.join(['ollama-otel', 'diff', str(log), str(plan.out)])}")


def _default_out(log: Path) -> Path:
    stem = log.name.removesuffix(".gz").removesuffix(".jsonl")
    return log.with_name(f"{stem}.replayed.jsonl")


def _host(arguments: argparse.Namespace) -> Address:
    return arguments.host or parse_host(os.environ.get("OLLAMA_HOST"))
