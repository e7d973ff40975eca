"""The command `serve-replay`: a server that answers from a log."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator

from ollama_otel._cli.arguments import number, place_to_listen, share_of_status
from ollama_otel._cli.http_server import check_installed, serve
from ollama_otel._cli.terminal import plural
from ollama_otel._display import visible, visible_line
from ollama_otel._wire.address import Address
from ollama_otel.errors import ReplayError, SettingsError
from ollama_otel.replay._chaos import Chaos
from ollama_otel.replay._matching import CallIndex
from ollama_otel.replay._server import ReplayApp, Served

__all__ = ["add_arguments", "run"]

_DESCRIPTION = """\
Answers on a port as the logged server did, byte for byte and with the logged timing, so that
any Ollama client can run against a log. A request that is not in the log gets status 501, and the
nearest logged request is printed here. --fail, --cut, --error and --slow inject faults, to test
how a client handles them. The version, the list of models, and of a logged model its description
and its loading are made up if the log has none, so that `ollama run` works.

Everyone who reaches the port can ask for what the log holds, so it listens on this machine only,
unless --listen says otherwise, and refuses names that a website could point at it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    add = parser.add_argument
    add("log", metavar="LOG", help="a replay log, a cassette, or a folder of them")
    add(
        *("--listen", "-l"),
        type=place_to_listen,
        default="127.0.0.1:11500",
        metavar="[HOST:]PORT",
        help="where to listen, or a port of this machine; port 0 picks a free one "
        "(default: %(default)s)",
    )
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name under which clients reach it, * for any; may be repeated",
    )
    add(
        "--speed",
        type=number,
        default=1.0,
        help="2 is twice as fast, 0 without waiting (default: 1)",
    )
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
        help="answer a share of requests with an error, such as 503=0.1; may be repeated",
    )
    add("--cut", type=number, default=0.0, metavar="SHARE", help="cut off a share of streams")
    add(
        "--error",
        type=number,
        default=0.0,
        metavar="SHARE",
        help="end a share of streams with an error line",
    )
    add("--seed", type=int, help="inject the same faults each time")
    add("--quiet", "-q", action="store_true", help="no line for each request")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; raises `OllamaOtelError` if nothing can be served."""
    check_installed()
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
        allowed_hosts=arguments.allow_host,
        report=None if arguments.quiet else lambda served: _print(_served_line(served)),
    )
    if not app.index.playable_count:
        raise ReplayError(
            f"no call of {arguments.log} can be played ({len(app.index.calls)} in all)"
            + "".join(f"\n  {line}" for line in _left_out(app.index))
        )
    with _listening(arguments.listen) as listener:
        host, port = listener.getsockname()[:2]
        place = Address(scheme="http", host=host, port=port, path="")
        serve(app, listener, announce=lambda: _print("\n".join(_start_lines(app, place))))
    return 0


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        # Python's own text repeats the address.
        reason = str(error.strerror).partition(" (")[0]
        raise SettingsError(
            f"cannot listen at {address.url.removeprefix('http://')}: {reason}; "
            "choose another address with --listen"
        ) from error


# --- output -------------------------------------------------------------------------------


def _start_lines(app: ReplayApp, place: Address) -> Iterator[str]:
    index = app.index
    left_out = len(index.calls) - index.playable_count
    aside = f" ({left_out} more cannot be played)" if left_out else ""
    yield f"Serving {plural(index.playable_count, 'call')}{aside} of {index.name} at {place.url}"
    yield from _left_out(index)
    yield f"Models: {visible_line(', '.join(app.models)) or 'none'}"
    yield f"Use it:  OLLAMA_HOST={place.connectable.removeprefix('http://')} with any client"
    yield "Stop it: Ctrl-C"


def _left_out(index: CallIndex) -> Iterator[str]:
    for obstacle, calls in index.obstacles.items():
        yield f"Left out {plural(calls, 'call')}: {'it' if calls == 1 else 'each'} {obstacle}"


def _served_line(served: Served) -> str:
    request, call = served.asked, served.call
    model = f" {request.model}" if request.model else ""
    where = "" if call is None else f"line {call.line} of {call.file.name}, "
    status = "no status" if served.status is None else f"status {served.status}"
    return visible_line(
        f"{request.method} {request.path}{model} -> {where}{status}, {served.outcome}"
    )


def _print(line: str) -> None:
    # Flushed, as a reader may follow it through a pipe.
    print(visible(line), flush=True)
