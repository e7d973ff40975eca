"""The command `report`: writes an HTML page about the calls of a log."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final

from rich.text import Text

from ollama_otel._cli.arguments import add_no_color, new_file
from ollama_otel._cli.terminal import console_for_text, plural
from ollama_otel.errors import SettingsError

if TYPE_CHECKING:
    from ollama_otel.analysis import Report

__all__ = ["add_arguments", "run", "write_page"]

_DESCRIPTION = """\
Writes a page about the calls of a log: what needs attention, the calls that are worth a look,
latency, tokens, errors, cold starts, cuts, tools, cost, capacity and advice. The page is one file,
needs no network and no JavaScript, and has facts of calls only: no prompts and no answers.
"""
_EPILOG = """\
The calls are compared to as many days before --since, if the log has them, and otherwise the
second half of the period to the first.

examples:
  ollama-otel report calls.jsonl
  ollama-otel report calls.jsonl --since 2026-11-23 -o week.html
  ollama-otel report calls.jsonl --prices prices.toml

--json prints the values of the page instead; its fields are those of
`ollama_otel.analysis.Report`. Times are seconds.

exit status:
  0  the page is written
  2  the log cannot be read, has no such calls, or the page cannot be written
"""
_SHOWN: Final = 3
_STYLES: Final = {"worse": "red", "high": "yellow", "better": "green", "changed": "cyan"}
_HEAD: Final = 2048
"""Length of the beginning of a page that contains its generator."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Imported on use: it needs the extra `analysis`.
    from ollama_otel._cli.calls_source import add_source  # noqa: PLC0415

    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_source(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=new_file,
        default=Path("report.html"),
        metavar="FILE",
        help="the page (default: report.html); another report there is replaced",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a file that is not a report, too"
    )
    parser.add_argument(
        "--prices", type=Path, metavar="FILE", help="a price file (TOML), for the section on cost"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave out capacity and advice, which take most of the time",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, write no page")
    add_no_color(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print the most important findings."""
    _check_prices(arguments)
    if not arguments.json:
        _check_place(arguments.output, force=arguments.force)
    report = _report(arguments)
    if arguments.json:
        print(report.json())
        return 0
    write_page(arguments.output, report)
    console = console_for_text(sys.stdout, no_color=arguments.no_color)
    for line in _lines(report, arguments.output):
        console.print(line, soft_wrap=True)
    return 0


def _report(arguments: argparse.Namespace) -> Report:
    from ollama_otel._cli.calls_source import opened  # noqa: PLC0415
    from ollama_otel._prices.reading import read_prices  # noqa: PLC0415
    from ollama_otel.analysis import report  # noqa: PLC0415

    # The period before is read too.
    of_any_time = argparse.Namespace(**{**vars(arguments), "since": None, "until": None})
    with opened(of_any_time) as calls:
        return report(
            calls,
            since=arguments.since,
            until=arguments.until,
            prices=None if arguments.prices is None else read_prices(arguments.prices),
            is_quick=arguments.quick,
        )


def _check_prices(arguments: argparse.Namespace) -> None:
    """Reject costs for only some calls of a machine; raises `SettingsError`."""
    narrowed = [name for name in ("model", "user", "tag", "server") if getattr(arguments, name)]
    if arguments.prices is not None and narrowed:
        raise SettingsError(
            f"--prices: expected all calls, found --{narrowed[0]}: a call costs its share of the "
            "machine's time, which needs the other calls; `ollama-otel cost --by` groups costs"
        )


def _check_place(path: Path, *, force: bool) -> None:
    """Refuse to overwrite a file that is not a report; raises `SettingsError`."""
    from ollama_otel.analysis._report.page import GENERATOR  # noqa: PLC0415

    if force or not path.exists():
        return
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            if GENERATOR in file.read(_HEAD):
                return
    raise SettingsError(
        f"{path}: expected a new file or an earlier report, found something else: name another "
        "file with -o, or replace it with --force"
    )


def write_page(path: Path, report: Report) -> None:
    """Write the page in one step; only this user can read it. Raises `OSError`."""
    with NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
    ) as file:
        made = Path(file.name)
        try:
            file.write(report.html())
            file.close()
            made.replace(path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise


def _lines(report: Report, path: Path) -> list[Text]:
    urgent = [finding for finding in report.findings if finding.kind in {"worse", "high"}]
    lines = [Text.assemble(f"{plural(report.calls.total, 'call')}: ", (str(path), "bold"))]
    if not urgent:
        if not report.period.is_comparable:
            return [*lines, Text("No number is high. There are too few calls to show changes.")]
        return [*lines, Text("Nothing needs attention.", style="green")]
    more = f", the first {_SHOWN} are" if len(urgent) > _SHOWN else ""
    lines.append(Text(f"{plural(len(urgent), 'finding')}{more}:"))
    lines += [
        Text.assemble("  ", (finding.kind, _STYLES[finding.kind]), f"  {finding.text}")
        for finding in urgent[:_SHOWN]
    ]
    return lines
