"""The command `serve-replay`: an Ollama server that says what a log says."""

from __future__ import annotations

import argparse
import socket
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ollama_otel._cli.arguments import number, place_to_listen, share_of_status
from ollama_otel._wire.address import Address
from ollama_otel.errors import MissingExtraError, ReplayError, SettingsError

if TYPE_CHECKING:
    from ollama_otel.replay import ReplayApp
    from ollama_otel.replay._server import Served

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Answers on a port as the recorded server did, byte for byte and with the recorded timing, so
that any client of Ollama can be run against a log. What the log does not have is answered with
status 501 and the nearest request that it has. The troubles (--fail, --cut, --error, --slow)
show what a client makes of a bad day.
"""

_PATIENCE = 1
"""Seconds that answers under way get when it is to end."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "serve-replay", help="answer from a log on a port", description=_DESCRIPTION
    )
    add = parser.add_argument
    add("log", metavar="LOG", help="a replay log, a folder of them, or a cassette")
    add(
        *("--listen", "-l"),
        type=place_to_listen,
        default="127.0.0.1:11500",
        metavar="HOST:PORT",
        help="where to listen; port 0 is any free one (default: %(default)s)",
    )
    add("--speed", type=number, default=1.0, help="2 is twice as fast, 0 at once (default: 1)")
    add("--once", action="store_true", help="answer a request only as often as it was recorded")
    add(
        "--ignore",
        action="append",
        default=[],
        metavar="FIELD",
        help="a request field that may differ, such as options.seed; may be repeated",
    )
    add("--slow", type=number, default=0.0, metavar="SECONDS", help="wait before each piece")
    add(
        "--fail",
        type=share_of_status,
        action="append",
        default=[],
        metavar="STATUS=SHARE",
        help="refuse a share of requests, such as 503=0.1; may be repeated",
    )
    add("--cut", type=number, default=0.0, metavar="SHARE", help="break off a share of streams")
    add(
        "--error",
        type=number,
        default=0.0,
        metavar="SHARE",
        help="end a share of streams with an error line",
    )
    add("--seed", type=int, help="the same troubles each time")
    add("--quiet", "-q", action="store_true", help="no line for each request")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; raises `OllamaOtelError` for what cannot be served."""
    # One is an extra, and the other imports httpx.
    uvicorn = _uvicorn()
    from ollama_otel.replay import Chaos, ReplayApp  # noqa: PLC0415

    app = ReplayApp(
        arguments.log,
        speed=arguments.speed,
        ignore=arguments.ignore,
        repeat=not arguments.once,
        chaos=Chaos(
            slow=arguments.slow,
            fail=dict(arguments.fail),
            cut=arguments.cut,
            error=arguments.error,
            seed=arguments.seed,
        ),
        report=None if arguments.quiet else _print_served,
    )
    if not app.index.playable_count:
        raise ReplayError(
            f"{arguments.log} has no call that could be played (calls: {len(app.index.calls)}): "
            "record with replay_bodies=True"
        )
    with _listening(arguments.listen) as listener:
        _print_opening(app, listener.getsockname())
        _serve(uvicorn, app, listener)
    return 0


def _uvicorn() -> Any:
    try:
        return import_module("uvicorn")
    except ImportError as error:
        raise MissingExtraError(
            "serve-replay needs a package that is not installed: pip install 'ollama_otel[server]'"
        ) from error


def _serve(uvicorn: Any, app: ReplayApp, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        # It complains of each answer that breaks off, which here is as recorded.
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_PATIENCE,
    )
    # The interrupt is how a server ends.
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        # Python's own text goes on to name the address a second time.
        reason = str(error.strerror).partition(" (")[0]
        raise SettingsError(
            f"cannot listen at {address.url.removeprefix('http://')}: {reason}; "
            "choose another place with --listen"
        ) from error


# --- what is printed ----------------------------------------------------------------------


def _print_opening(app: ReplayApp, bound: tuple[Any, ...]) -> None:
    from ollama_otel._cli.terminal import first_words, plural  # noqa: PLC0415

    index = app.index
    host, port = bound[:2]
    address = Address(scheme="http", host=host, port=port, path="")
    reached = address.connectable.removeprefix("http://")
    left_out = len(index.calls) - index.playable_count
    aside = f" ({left_out} more cannot be played)" if left_out else ""
    _print(
        f"Serving {plural(index.playable_count, 'call')}{aside} of {index.name} at {address.url}"
    )
    _print(f"Models: {first_words(', '.join(app.models)) or 'none'}")
    _print(f"Ask it:  run any client with OLLAMA_HOST={reached}")
    _print("Stop it: Ctrl-C")


def _print_served(served: Served) -> None:
    from ollama_otel._cli.terminal import first_words  # noqa: PLC0415

    asked, call = served.asked, served.call
    model = f" {asked.model}" if asked.model else ""
    where = "" if call is None else f"line {call.line} of {call.file.name}, "
    status = "no status" if served.status is None else f"status {served.status}"
    line = f"{asked.method} {asked.path}{model} -> {where}{status}, {served.outcome}"
    _print(first_words(line))


def _print(line: str) -> None:
    from ollama_otel._cli.terminal import printable  # noqa: PLC0415

    # At once, as somebody may follow it through a pipe.
    print(printable(line), flush=True)
