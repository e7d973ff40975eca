"""The command `dashboards`: runs the boards' stack, checks it, and hands the boards on."""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any, Final

from ollama_otel._cli.arguments import count, factor

__all__ = ["add_parser"]

_DESCRIPTION = """\
Boards, alerts and the stack that shows them: Grafana, Prometheus, Jaeger and a collector.
Run them here (up, down), ask a Prometheus what the boards would show (check), or take them
to a Grafana and a Prometheus of your own (export, import).
"""
_UP = """\
Starts the stack in containers, waits until it answers, and says where it is.
Ports are open to this machine only.
"""
_CHECK = """\
Runs every query of every panel on a Prometheus, with everything chosen, and says which have
data and why the others have none.
"""
_CHECK_EPILOG = """\
exit status:
  0  every panel has data that can have some
  1  some have none, and could
  2  the Prometheus cannot be asked
"""
_EXPORT = """\
Writes boards, rules and configurations into a folder of yours, to change them or to provision
a Grafana with them.
"""
_IMPORT = """\
Puts the boards into a Grafana by its HTTP API, over older ones of ours. Alerts are not
imported: they are rules of Prometheus (rule_files).
"""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command, its own commands and their arguments."""
    parser = commands.add_parser(
        "dashboards",
        help="run, check, export or import the Grafana boards",
        description=_DESCRIPTION,
    )
    own = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_up(own)
    _add_down(own)
    _add_check(own)
    _add_export(own)
    _add_import(own)


def _add_up(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser("up", help="start the stack in containers", description=_UP)
    parser.add_argument("--with-ollama", action="store_true", help="run an Ollama, too")
    parser.add_argument("--with-loki", action="store_true", help="keep logs, too")
    _add_file(parser)
    parser.add_argument(
        "--wait",
        type=factor,
        default=180.0,
        metavar="SECONDS",
        help="how long to wait until it answers (default: 180)",
    )
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=_up)


def _add_down(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser("down", help="stop the stack", description="Stops the stack.")
    _add_file(parser)
    parser.add_argument(
        "--volumes", action="store_true", help="drop what it has stored, models of its Ollama too"
    )
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=_down)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="another compose file than the one shipped"
    )


def _add_check(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "check",
        help="ask a Prometheus which panels have data",
        description=_CHECK,
        epilog=_CHECK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--prometheus",
        default="http://localhost:9090",
        metavar="URL",
        help="where Prometheus is (default: http://localhost:9090)",
    )
    parser.add_argument(
        "--board", action="append", metavar="NAME", help="only this board; by uid, or its end"
    )
    parser.add_argument(
        "--range",
        type=_duration,
        default=3600,
        metavar="TIME",
        help="how far to look back: 30m, 1h, 2d (default: 1h)",
    )
    parser.add_argument(
        "--interval",
        type=count,
        default=60,
        metavar="SECONDS",
        help="how far apart samples are: the export or scrape interval (default: 60)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_choice,
        metavar="NAME=VALUE",
        help="choose a value of a board's variable, as in --set model=llama3.2",
    )
    parser.add_argument("--boards", type=Path, metavar="DIR", help="a folder of an export instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=_check)


def _add_export(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "export", help="write boards, rules and configurations", description=_EXPORT
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("ollama-dashboards"),
        metavar="DIR",
        help="where to write (default: ollama-dashboards)",
    )
    _add_source(parser)
    parser.add_argument("--force", action="store_true", help="overwrite files that differ")
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=_export)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--datasource",
        metavar="UID",
        help="the Prometheus data source to ask, instead of the one chosen on a board",
    )


def _add_import(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "import", help="put the boards into a Grafana", description=_IMPORT
    )
    parser.add_argument("--grafana", required=True, metavar="URL", help="where Grafana is")
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--token", metavar="TOKEN", help="of a service account; otherwise GRAFANA_TOKEN is read"
    )
    who.add_argument("--user", type=_user, metavar="NAME:PASSWORD", help="instead of a token")
    parser.add_argument(
        "--folder", default="Ollama", metavar="NAME", help="the folder (default: Ollama)"
    )
    _add_source(parser)
    for name, what in (("prometheus", "Prometheus"), ("jaeger", "Jaeger")):
        parser.add_argument(
            f"--{name}-url",
            metavar="URL",
            help=f"where Grafana finds {what}: makes a data source {name!r} where there is none",
        )
    parser.add_argument("--no-color", action="store_true", help="print plain text")
    parser.set_defaults(run=_import)


def _duration(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdecimal() or not int(number):
        raise ArgumentTypeError(f"expected a time such as 30m, 1h or 2d, found {text!r}")
    return int(number) * _UNITS[unit]


def _choice(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"expected NAME=VALUE such as model=llama3.2, found {text!r}")
    return name, value


def _user(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    if not name or not colon:
        raise ArgumentTypeError("expected NAME:PASSWORD such as admin:admin")
    return name, password


# A command imports its work when it runs.


def _up(arguments: argparse.Namespace) -> int:
    from ollama_otel._cli import compose  # noqa: PLC0415

    return compose.up(arguments)


def _down(arguments: argparse.Namespace) -> int:
    from ollama_otel._cli import compose  # noqa: PLC0415

    return compose.down(arguments)


def _check(arguments: argparse.Namespace) -> int:
    from ollama_otel._cli import check  # noqa: PLC0415

    return check.run(arguments)


def _export(arguments: argparse.Namespace) -> int:
    from ollama_otel._cli import export_import  # noqa: PLC0415

    return export_import.export_files(arguments)


def _import(arguments: argparse.Namespace) -> int:
    from ollama_otel._cli import export_import  # noqa: PLC0415

    return export_import.import_boards(arguments)
